# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow repro`: evidence from real logs, the story of one program on several kernels."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from harness import cli, repro_bundle, repro_load, repro_report
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.build import PROGS, build
from harness.config import Settings
from harness.errors import ToolMissingError, WorldError
from harness.model import Observation, Provenance, Verdict
from harness.repro_bundle import Bundle
from harness.repro_load import Loaded, bisect
from harness.repro_log import evidence
from harness.repro_report import Answer, Story, groups, relation

DATA = Path(__file__).parent.parent / "data" / "load-log"
SOURCE = PROGS / "reject" / "iterator_live.bpf.c"
RELEASES = {"6.12": "6.12.107", "6.18": "6.18.15", "7.3": "7.3.4"}


def log(name):
    return (DATA / f"{name}.txt").read_text()


def refused(kernel, name="iterator-live", errno=22):
    return Observation(
        Verdict.REJECTED,
        message="the useful line",
        errno=errno,
        log=log(f"{kernel}-{name}"),
        provenance=Provenance(f"vm-{kernel}", RELEASES[kernel], "tcg", "1", loader="bpftool"),
    )


TAKEN = Observation(Verdict.RAN, provenance=Provenance("vm-8.0", "8.0.1"))
LOST = Observation(Verdict.LOST, message="8.0 did not boot\nfix: look")


# evidence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", RELEASES)
def test_where_it_was_refused_and_where_it_was_taken(kernel):
    found = evidence(log(f"{kernel}-iterator-live"), "")
    assert (found.refused.number, found.refused.instruction) == (12, "(85) call bpf_throw")
    assert (found.refused.line.file, found.refused.line.number) == ("iterator_live.bpf.c", 27)
    (taken,) = found.taken
    assert (taken.number, taken.line.number) == (5, 24)
    assert found.registers["R1"] == "scalar(smin=0xffffffff80000000,smax=0x7fffffff)"
    assert found.registers["refs"] == "#1"
    assert found.registers["fp-8"].startswith("iter_num(")
    assert not found.cut


def test_every_reference_that_is_held_is_named_with_who_holds_it():
    for kernel in ("6.12", "7.3"):
        found = evidence(log(f"{kernel}-everything-held"), "")
        assert [place.number for place in found.taken] == [5, 22, 43]
        assert [place.line.number for place in found.taken] == [67, 52, 37]
        # in the main program and in the function between
        assert found.registers["R7 of frame 0"].startswith("ptr_session(")
        assert found.registers["R7 of frame 1"].startswith("ringbuf_mem(")


def test_a_region_has_no_number_in_the_message():
    (taken,) = evidence(log("7.3-rcu-held"), "").taken
    assert (taken.number, taken.line.text) == (0, "bpf_rcu_read_lock();")


def test_the_register_that_a_message_names():
    for kernel in ("6.18", "7.3"):
        found = evidence(log(f"{kernel}-unguarded-index"), "")
        assert found.registers["R2"].startswith("map_value(ks=4,vs=32,smin=0")


def test_no_instruction_where_the_verifier_looked_at_none():
    found = evidence(log("7.3-missing-newline"), "")
    assert found.refused is None  # it names instruction 1, of which the log has no line
    found = evidence("", "prog 'x': cannot find exception callback 'nowhere'")
    assert found.found.rule.name == "callback-unknown"
    assert found.refused is None


def test_lines_come_from_the_object_where_the_log_has_none():
    program = link(read_object(build([SOURCE])[0]), "refused")
    bare = "\n".join(
        line for line in log("6.12-iterator-live").splitlines() if not line.startswith(";")
    )
    found = evidence(bare, "", program)
    assert found.refused.line.number == 27
    assert found.taken[0].line.number == 24


def test_a_log_that_was_cut_says_so():
    whole = log("6.12-iterator-live")
    assert evidence(whole[: len(whole) // 2], "").cut


# one rule, two rules ------------------------------------------------------------------------


def answer(kernel, seen):
    known = evidence(seen.log, seen.message) if seen.verdict is Verdict.REJECTED else None
    return Answer(kernel, seen, known)


A612, A618, A73 = (answer(kernel, refused(kernel)) for kernel in RELEASES)


def test_relations():
    assert relation(A612, A612) == "the same"
    assert relation(A612, A618) == "the same rule, other wording"
    assert relation(A618, A73) == "the same rule, other wording"
    assert relation(A612, answer("6.12", refused("6.12", errno=95))).endswith("other wording")
    assert relation(A618, answer("6.18", refused("6.18", "unguarded-index"))) == "another rule"
    assert relation(A73, answer("8.0", TAKEN)) == "another verdict"
    # words that no row knows: the same only when they are the same
    odd = [Observation(Verdict.REJECTED, message=words) for words in ("odd", "odd", "odder")]
    one, same, other = (answer("x", seen) for seen in odd)
    assert relation(one, same) == "the same"
    assert relation(one, other) == "another rule"


def test_groups():
    other = answer("6.18b", refused("6.18", "unguarded-index"))
    found = groups([A612, other, A618, answer("8.0", TAKEN), A73])
    assert [[each.kernel for each in group] for group in found] == [["6.12", "6.18", "7.3"],
                                                                    ["6.18b"]]  # fmt: skip


# bisecting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("first_bad", [1, 2, 3, 4, 5, 6])
def test_bisect_finds_the_pair_with_few_loads(first_bad):
    names = [f"k{n}" for n in range(7)]
    asked = []

    def load(name):
        asked.append(name)
        bad = names.index(name) >= first_bad
        return Loaded(name, {"p": refused("7.3") if bad else TAKEN})

    def same(one, other):
        return one.seen["p"].verdict is other.seen["p"].verdict

    loaded, pairs = bisect(names, load, same)
    assert pairs == ((names[first_bad - 1], names[first_bad]),)
    assert [each.kernel for each in loaded] == sorted(asked)
    assert len(asked) <= 5
    assert len(set(asked)) == len(asked)


def test_bisect_of_what_did_not_change():
    loaded, pairs = bisect(["a", "b", "c"], lambda name: Loaded(name, {}), lambda *_: True)
    assert pairs == ()
    assert [each.kernel for each in loaded] == ["a", "c"]


def test_bisect_of_what_changed_more_than_once():
    answers = dict(zip("abcdefgh", "11222333", strict=True))
    loaded, pairs = bisect(
        list(answers),
        lambda name: Loaded(name, {}),
        lambda one, other: answers[one.kernel] == answers[other.kernel],
    )
    assert pairs == (("b", "c"), ("e", "f"))
    assert len(loaded) < len(answers)


# loading ------------------------------------------------------------------------------------


def test_a_machine_that_cannot_answer_once_is_asked_the_rest(monkeypatch):
    """bpftool is ended after a while where the verifier has too many paths to follow."""
    obj = read_object(build([PROGS / "reject" / "references.bpf.c"])[0])
    names = [program.name for program in obj.programs[:3]]
    said = {
        names[0]: WorldError("agent: bpftool prog loadall took longer than 60.0 s"),
        names[1]: WorldError("agent: the machine has no bpftool"),
        names[2]: TAKEN,
    }

    class Machine:
        def run(self, case):
            if isinstance(said[case.program], Exception):
                raise said[case.program]
            return said[case.program]

    monkeypatch.setattr(repro_load, "open_target", lambda *_: nullcontext(Machine()))
    monkeypatch.setattr(repro_load.kernels, "resolve", lambda name: None)
    monkeypatch.setattr(repro_load.boot, "machine_for", lambda *_: None)
    (loaded,) = repro_load.load_on(["7.3"], obj, names, Settings())
    first, second, third = (loaded.seen[name] for name in names)
    assert first.verdict is Verdict.HUNG
    assert first.message == "no answer within 60.0 s: too many paths to follow, perhaps"
    assert (second.verdict, third) == (Verdict.LOST, TAKEN)


def test_the_models_reason_stands_below_the_rule():
    known = replace(A73, reason="the loop of line 24 goes on", remedy="leave it first")
    lines = repro_report.text(Story("p", "tc", (A612, known)))
    assert "= why: a reference is still held here" in lines
    assert "= here: the loop of line 24 goes on" in lines
    assert "= fix: leave it first" in lines
    assert "6.12 says: Unreleased reference" in lines
    nameless = replace(known, evidence=replace(known.evidence, found=None))
    lines = repro_report.text(Story("p", "tc", (nameless,)))
    assert "refused: 7.3" in lines
    assert "= why: the loop of line 24 goes on" in lines
    assert "= here" not in lines


# the command --------------------------------------------------------------------------------


@pytest.fixture
def kernels(monkeypatch):
    """No machine: each kernel's answer, as recorded; the tests may change them."""
    answers = {kernel: refused(kernel) for kernel in RELEASES} | {"6.1": TAKEN}

    def load_on(names, obj, programs, settings, **_):
        return [Loaded(name, dict.fromkeys(programs, answers[name])) for name in names]

    monkeypatch.setattr(repro_load, "load_on", load_on)
    return answers


def repro(*arguments):
    return cli.main(["repro", *map(str, arguments)])


def test_the_story(kernels, capsys):
    assert repro(SOURCE, "--kernel", "6.1", "--kernel", "6.12", "--kernel", "7.3") == 1
    out = capsys.readouterr().out
    assert "6.1     8.0.1     accepted" in out
    assert "7.3     7.3.4     rejected  EINVAL  the same rule, other wording: bpf_throw" in out
    assert "reference-held (resource-lifetime): 6.12, 7.3" in out
    assert "--> iterator_live.bpf.c:27, instruction 12: (85) call bpf_throw" in out
    assert "bpf_iter_num_new(&numbers, 0, 5);    <- taken here" in out
    # the source file has lines without code, too
    assert "  > 27 | \t\tbpf_throw(*number);" in out
    assert "taken at line 24" in out
    assert "= said by: check_reference_leak(), kernel/bpf/verifier.c" in out
    assert "From 6.12 to 7.3: the same rule, other wording" in out
    assert "+bpf_throw would lead to reference leak" in out


def test_accepted_by_all(kernels, capsys):
    assert repro(SOURCE, "--kernel", "6.1") == 0
    assert "accepted" in capsys.readouterr().out


def test_json(kernels, capsys):
    assert repro(SOURCE, "--kernel", "7.3", "--json") == 1
    data = json.loads(capsys.readouterr().out)
    (program,) = data["programs"]
    (kernel,) = program["kernels"]
    assert (kernel["rule"], kernel["category"]) == ("reference-held", "resource-lifetime")
    assert (kernel["refused"]["line"], kernel["taken"][0]["line"]) == (27, 24)
    assert kernel["log"] == log("7.3-iterator-live")


def test_bisecting_from_the_command(kernels, capsys):
    assert repro(SOURCE, "--bisect") == 1
    assert "The answer changed between 6.1 and 6.12.\n" in capsys.readouterr().out
    assert repro(SOURCE, "--bisect", "--kernel", "6.12", "--kernel", "7.3") == 1
    assert "The answer changed nowhere." in capsys.readouterr().out


def test_the_model_answers_where_no_kernel_can(kernels, capsys):
    kernels["7.3"] = LOST
    assert repro(SOURCE, "--kernel", "7.3") == 128
    captured = capsys.readouterr()
    assert "no kernel answered; the verifier model" in captured.out
    assert "8.0 did not boot" in captured.err


def test_the_model_answers_where_nothing_boots(monkeypatch, capsys):
    def no_qemu(*_):
        raise ToolMissingError("qemu-system-x86_64 is not installed", fix="make setup")

    monkeypatch.setattr(repro_load.kernels, "resolve", lambda name: None)
    monkeypatch.setattr(repro_load.boot, "machine_for", no_qemu)
    assert repro(SOURCE, "--kernel", "7.3", "--kernel", "6.12") == 128
    said = capsys.readouterr()
    assert "no kernel answered; the verifier model" in said.out
    assert "7.3: reject: resource-lifetime" in said.out
    assert "7.3: qemu-system-x86_64 is not installed\n  fix: make setup" in said.err


def bundled(tmp_path, **changes):
    """A bundle of SOURCE's object on 7.3 with other fields, as a file."""
    path = build([SOURCE])[0]
    own = Bundle(
        "a.bpf.c", ("refused",), path.read_bytes(), SOURCE.read_bytes(), {},
        (Loaded("7.3", {"refused": refused("7.3")}),),
    )  # fmt: skip
    out = tmp_path / "stranger.tar"
    out.write_bytes(repro_bundle.dumps(replace(own, **changes)))
    return out


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"object": b"no object"}, "stranger.tar: the object in it: not an ELF file"),
        ({"programs": ("nobody",)}, "stranger.tar: the object in it: no program 'nobody'"),
    ],
)
def test_what_is_wrong_in_a_bundle_is_said_of_the_bundle(kernels, tmp_path, capsys, changes, word):
    assert repro(bundled(tmp_path, **changes), "--kernel", "7.3") == 2
    said = capsys.readouterr().err
    assert word in said
    assert "object.bpf.o" not in said


def test_a_bundle_does_not_move_the_cursor(kernels, tmp_path, capsys):
    loads = (Loaded("7.3\x1b]0;title\x07", {"refused": refused("7.3")}),)
    source = SOURCE.read_bytes().replace(
        b"bpf_throw(*number);", b"bpf_throw(*number); /*\x1b[2J\r*/"
    )
    assert repro(bundled(tmp_path, loads=loads, source=source), "--kernel", "7.3") == 1
    said = capsys.readouterr()
    assert "7.3\ufffd]0;title\ufffd in the bundle" in said.out
    assert "\x1b" not in said.out + said.err
    assert "\r" not in said.out + said.err


def test_a_bundle_and_back(kernels, tmp_path, capsys):
    out = tmp_path / "out.tar"
    repro(SOURCE, "--kernel", "6.12", "--kernel", "6.18", "--bundle", out)
    first = capsys.readouterr().out
    again = tmp_path / "again.tar"
    repro(SOURCE, "--kernel", "6.12", "--kernel", "6.18", "--bundle", again)
    capsys.readouterr()
    assert out.read_bytes() == again.read_bytes()
    assert repro(out, "--kernel", "6.12", "--kernel", "7.3") == 1
    text = capsys.readouterr().out
    assert "6.12 in the bundle, 6.12 now: the same" in text
    assert "6.18 in the bundle, 7.3 now: the same rule, other wording" in text
    # the source travels: lines without code are there
    assert "  > 27 | \t\tbpf_throw(*number);" in first
    assert "  > 27 | \t\tbpf_throw(*number);" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((SOURCE, "--prog", "nobody"), "no program 'nobody'"),
        (("nowhere.bpf.o",), "nowhere.bpf.o"),
        (("nowhere.bpf.c",), "no such file"),
        (("nowhere.tar",), "nowhere.tar: cannot be read"),
        ((SOURCE, "--kernel", "9.99"), "9.99"),
        ((SOURCE, "--bundle", "nowhere/out.tar"), "no directory"),
    ],
)
def test_mistakes(kernels, capsys, arguments, word):
    assert repro(*arguments) == 2
    assert word in capsys.readouterr().err
