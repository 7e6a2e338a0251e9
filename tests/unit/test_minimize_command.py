# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`repro --minimize`: with the model alone, with kernels, and what ends it."""

import dataclasses
import json
import re
from contextlib import contextmanager

import pytest

from harness import cli, minimize_command, minimize_oracle
from harness.asm_command import object_from
from harness.bpf.declare import unit_of
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.build import PROGS, build
from harness.errors import MachineLostError
from harness.minimize_draft import draft_of
from harness.model import Observation, Provenance, Verdict
from harness.verify.predict import predict

# ---- the command, with the model ------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "program", "rule", "most"),
    [
        ("iterator_live", "refused", "reference", 8),
        ("locks", "throw_in_static", "holding a lock", 11),
        ("references", "one_of_two", "reference", 12),
        ("throw_in_callbacks", "loop_calls_static", "cannot be called from callback", 12),
        ("ranges", "in_static", "should have been in", 5),
        ("reference_held_global", "refused", "reference", 9),
        ("callbacks_of_others", "order_of_tree", "holding a lock", 30),
        ("unguarded_index", "refused", "", 12),
        ("callback_tags", "misspelt", "cannot find exception callback", 2),
    ],
)
def test_the_model_shrinks_programs_of_every_kind(file, program, rule, most, tmp_path, capsys):
    source, out = PROGS / "reject" / f"{file}.bpf.c", tmp_path / "small.bpf.s"
    before = predict(build([source])[0], program, "7.3")
    command = ["repro", str(source), "--prog", program, "--minimize", "--model"]
    assert cli.main([*command, "--kernel", "7.3", "-o", str(out)]) == 1
    said = capsys.readouterr().out
    assert "no kernel was asked" in said
    assert f"written to {out}" in said
    path = tmp_path / "small.bpf.o"
    path.write_bytes(object_from(str(out)))
    after = predict(path, program, "7.3")
    assert rule in after.message
    assert (before.verdict, before.category) == (after.verdict, after.category)
    assert draft_of(unit_of(read_object(path), program)).size <= most


def test_json_has_history_and_text(capsys):
    source = PROGS / "reject" / "iterator_live.bpf.c"
    assert cli.main(["repro", str(source), "--minimize", "--model", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["program"], found["section"], found["complete"]) == ("refused", "tc", True)
    assert found["after"]["instructions"] < found["before"]["instructions"] == 18
    assert found["history"][0]["step"] == "blocks"
    assert found["history"][-1]["instructions"] == found["after"]["instructions"]
    assert found["kept"][0]["rule"] == "reference-held"
    assert ".func refused global" in found["assembler"]


def test_what_is_accepted_has_nothing_to_keep(capsys):
    source = PROGS / "reject" / "iterators.bpf.c"
    command = ["repro", str(source), "--prog", "destroyed_first", "--minimize", "--model"]
    assert cli.main(command) == 0
    assert "there is nothing to keep" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model"], "--model goes with --minimize"),
        (["-o", "x.bpf.s"], "-o goes with --minimize"),
        (["--exact"], "--exact goes with --minimize"),
        (["--minimize", "--bisect"], "do not go together"),
        (["--minimize", "--model", "--bundle", "x.tar"], "a bundle needs a kernel's answer"),
        (["--minimize", "--tries", "0"], "must be larger than 0"),
        (["--minimize", "-o", "nowhere/x.bpf.s"], "no directory nowhere"),
        (["--minimize", "--prog", "x"], "no program 'x'"),
        (["--minimize"], "has 8 programs, and one is minimised"),
    ],
)
def test_options_that_do_not_go_together(options, words, capsys):
    assert cli.main(["repro", str(PROGS / "reject" / "iterators.bpf.c"), *options]) == 2
    assert words in capsys.readouterr().err


def test_what_only_a_kernel_knows_is_not_shrunk_by_the_model(capsys):
    source = str(PROGS / "reject" / "poison_reached.bpf.c")
    assert cli.main(["repro", source, "--minimize", "--model"]) == 2
    assert "no types of a kernel are given" in capsys.readouterr().err


def test_what_depends_on_another_program_is_not_shrunk_by_the_model(capsys):
    source = str(PROGS / "reject" / "attach.bpf.c")
    command = ["repro", source, "--prog", "enters_callback", "--minimize", "--model"]
    assert cli.main([*command, "--kernel", "7.3"]) == 2
    assert "does not know what 7.3 says of enters_callback by itself" in capsys.readouterr().err


def test_a_mistake_in_the_assembler_is_named(tmp_path, capsys):
    path = tmp_path / "x.bpf.s"
    path.write_text(".section tc\nr1 = 5 5\nexit")
    assert cli.main(["repro", str(path), "--kernel", "7.3"]) == 2
    assert "x.bpf.s:2:8: expected 'll' or the end of the line" in capsys.readouterr().err


# ---- the command, with kernels --------------------------------------------------------------


@dataclasses.dataclass
class ModelTarget:
    """A kernel that says what the model says; `odd` objects take it down."""

    name: str
    odd: object = None
    runs: int = 0
    lost: bool = False

    def run(self, case):
        self.runs += 1
        if self.lost:
            raise MachineLostError("no such guest")
        kernel = f"{self.name}.0"
        if self.odd is not None and self.odd(self, case):
            return Observation(
                Verdict.CRASHED, message="Oops", provenance=Provenance(kernel=kernel)
            )
        found = predict(case.object, case.program, self.name)
        if found.verdict != "reject":
            return Observation(Verdict.RAN, provenance=Provenance(kernel=kernel))
        lines = re.sub(r"{{.*?}}", "0", found.message.replace(r"{{[\s\S]*}}", "\n"))
        linked = link(read_object(case.object), case.program)
        place = f"{found.pc}: (85) call bpf_throw" if found.pc is not None and (
            linked.insns[found.pc].is_call) else f"{found.pc or 0}: (95) exit"  # fmt: skip
        log = f"-- BEGIN PROG LOAD LOG --\n{place}\n{lines}\n-- END PROG LOAD LOG --"
        return Observation(
            Verdict.REJECTED, message=lines, errno=found.errno, log=log,
            provenance=Provenance(kernel=kernel),
        )  # fmt: skip


@pytest.fixture
def guests(monkeypatch):
    made = {}

    @contextmanager
    def opened(names, _settings):
        yield {name: made.setdefault(name, ModelTarget(name)) for name in names}

    monkeypatch.setattr(minimize_command, "opened", opened)
    return made


ITERATOR = str(PROGS / "reject" / "iterator_live.bpf.c")
BOTH = ("--kernel", "6.12", "--kernel", "7.3")


def test_kernels_have_the_last_word(guests, tmp_path, capsys):
    out, bundle = tmp_path / "small.bpf.s", tmp_path / "small.tar"
    command = ["repro", ITERATOR, "--minimize", *BOTH, "-o", str(out), "--bundle", str(bundle)]
    assert cli.main(command) == 1
    said = capsys.readouterr().out
    assert "18 to 8 instructions" in said
    assert "6.12 (6.12.0): rejected, reference-held" in said
    assert guests["6.12"].runs == guests["7.3"].runs
    # the first, what is written down, one a step that found something, the last
    assert guests["6.12"].runs < 20
    assert "; 7.3 (7.3.0): rejected, reference-held" in out.read_text()
    assert bundle.stat().st_size > 1000


def test_a_guest_that_dies_is_not_the_same(guests, tmp_path, capsys):
    def no_destroy(target, case):
        linked = link(read_object(case.object), case.program)
        return all(ref.name != "bpf_iter_num_destroy" for ref in linked.refs.values())

    guests["7.3"] = ModelTarget("7.3", no_destroy)
    out = tmp_path / "small.bpf.s"
    assert cli.main(["repro", ITERATOR, "--minimize", "--kernel", "7.3", "-o", str(out)]) == 1
    assert "call bpf_iter_num_destroy" in out.read_text()


def test_what_takes_the_kernel_down_is_not_minimised(guests, capsys):
    guests["7.3"] = ModelTarget("7.3", lambda _target, _case: True)
    assert cli.main(["repro", ITERATOR, "--minimize", "--kernel", "7.3"]) == 2
    assert "only what a kernel accepts or refuses is minimised" in capsys.readouterr().err


def test_a_kernel_that_is_not_there_is_left_out_and_without_any_the_model_answers(
    guests, tmp_path, capsys
):
    guests["7.3"] = ModelTarget("7.3", lost=True)
    assert cli.main(["repro", ITERATOR, "--minimize", *BOTH, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["kept"]] == ["6.12"]
    assert found["notes"] == ["7.3 could not be asked"]
    bundle = tmp_path / "small.tar"
    command = ["repro", ITERATOR, "--minimize", "--kernel", "7.3", "--json"]
    assert cli.main([*command, "--bundle", str(bundle)]) == 128
    said = capsys.readouterr()
    assert "small.tar was not written" in said.err
    assert not bundle.exists()
    found = json.loads(said.out)
    assert [row["name"] for row in found["kept"]] == ["model of 7.3"]
    assert "no kernel could be asked: the verifier model answered alone" in found["notes"]


def test_control_c_writes_the_best_so_far(guests, tmp_path, capsys):
    def tired(target, _case):
        if target.runs > 3:
            raise KeyboardInterrupt
        return False

    guests["7.3"] = ModelTarget("7.3", tired)
    out = tmp_path / "small.bpf.s"
    assert cli.main(["repro", ITERATOR, "--minimize", "--kernel", "7.3", "-o", str(out)]) == 130
    assert "interrupted: there may be a smaller one" in capsys.readouterr().out
    assert predict(_object(out), "refused", "7.3").verdict == "reject"


def _object(text):
    path = text.with_suffix(".o")
    path.write_bytes(object_from(str(text)))
    return path


def test_kernels_that_differ_go_on_to_differ(guests, tmp_path, capsys):
    """Accepted on 6.12, refused on 7.3: both stay."""
    source = str(PROGS / "reject" / "references.bpf.c")
    out = tmp_path / "small.bpf.s"
    command = [
        "repro",
        source,
        "--prog",
        "throw_in_global_is_dead",
        "--minimize",
        *BOTH,
        "-o",
        str(out),
    ]
    assert cli.main(command) == 1
    said = capsys.readouterr().out
    assert "6.12 (6.12.0): accepted" in said
    assert "7.3 (7.3.0): rejected" in said
    path, program = _object(out), "throw_in_global_is_dead"
    assert predict(path, program, "6.12").verdict == "accept"
    assert predict(path, program, "7.3").verdict == "reject"


def test_the_model_is_no_scout_where_it_foresees_something_else(guests, monkeypatch, capsys):
    monkeypatch.setattr(minimize_oracle, "_agree", lambda _found, _answer: False)
    assert cli.main(["repro", ITERATOR, "--minimize", "--kernel", "7.3", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "does not foresee what 7.3 says" in found["notes"][0]
    assert found["after"]["instructions"] == 8
    assert found["loads"] > 100
