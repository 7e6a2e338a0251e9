# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Shrinking programs: the search, what stays right in between, and the command."""

import dataclasses
import json
import re
import time
from contextlib import contextmanager

import pytest

from harness import cli, minimize_command, minimize_oracle
from harness.asm_command import object_from
from harness.bpf import isa
from harness.bpf.asm import assemble_unit
from harness.bpf.declare import Unit, unit_of
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.bpf.program import RefKind
from harness.build import PROGS, build
from harness.errors import MachineLostError
from harness.minimize import Search, bytes_of, object_of
from harness.minimize_draft import draft_of, unit_from
from harness.minimize_oracle import key_of, kind_of
from harness.minimize_steps import STEPS, alternatives, renamed
from harness.model import Case, Input, Observation, Provenance, Verdict
from harness.repro_log import evidence
from harness.repro_report import Answer
from harness.sim import run_case
from harness.verify.predict import predict

BRANCHES = """
.section tc
.callback handler
.globals .bss 8
.map unused array key u32 value u64 entries 4
.func entry global int(struct __sk_buff *)
        r6 = r1
        r2 = 3
        if r2 > 2 goto far
        r0 = 1
        goto out
far:
        r7 = map[.bss][0]+0
        *(u64 *)(r7 +0) = 5
        r1 = 4
        call twice
        r3 = 0x123456789a
        r2 = 3
again:
        r2 += -1
        if r2 != 0 goto again
        call nothing
        r1 = r0
        call bpf_throw
out:
        exit
.func twice
        r0 = r1
        r0 += r1
        exit
.func nothing
        r1 = 0
        r0 = 8
        exit
.func handler global
        r0 = r1
        r0 += 1
        exit
"""


def unit(text):
    return Unit(*assemble_unit(text, file="x.s"))


@dataclasses.dataclass
class Asked:
    """A judge who says what `rule` says of the linked program, and counts."""

    path: object
    rule: object
    count: int = 0

    def __call__(self, data):
        self.count += 1
        self.path.write_bytes(data)
        return self.rule(self.path)


def throws_nine(path):
    """Whether the simulator ends it by a throw whose callback returns 9."""
    name = read_object(path).programs[0].name
    if not any(r.kind is RefKind.KFUNC for r in link(read_object(path), name).refs.values()):
        return False
    case = Case("t", str(path), name, "tc", "test_run", Input(packet=bytes(64)), 1)
    seen = run_case(case, "6.12", trace=True)
    return (seen.verdict, seen.retval) == (Verdict.RAN, 9)


def nobody_knows(_data):
    return None


def search(text, judge, scout=nobody_knows, tries=3000, seconds=60):
    draft = draft_of(unit(text)).pruned()
    return Search(draft, judge, scout, tries, time.monotonic() + seconds)


# ---- what stays right -----------------------------------------------------------------------


def test_taken_apart_and_put_together_it_is_the_same():
    whole = unit(BRANCHES)
    again = unit_from(draft_of(whole))
    assert again.program.insns == whole.program.insns
    assert again.program.functions == whole.program.functions
    assert again.program.exception_callback == whole.program.exception_callback
    assert "unused" not in again.declared.maps
    assert bytes_of(again) is not None


def test_a_jump_leads_to_what_is_left_at_or_behind_its_target():
    draft = draft_of(unit(".section tc\nr0 = 1\nif r0 == 5 goto l\nr0 = 2\nl: r0 = 3\nexit"))
    keys = [item.key for item in draft.items]
    without_between = unit_from(draft.without(frozenset(keys[2:3])))
    assert without_between.program.insns[1].off == 0
    without_target = unit_from(draft.without(frozenset(keys[3:4])))
    assert without_target.program.insns[1].off == 1
    assert unit_from(draft.without(frozenset(keys[3:]))) is None
    assert unit_from(draft.without(frozenset(keys))) is None


def test_a_wide_instruction_goes_whole_and_jumps_count_both_halves():
    text = ".section tc\nif r1 == 5 goto l\nr0 = 0x1ffffffff\nr0 = 2\nl: exit"
    draft = draft_of(unit(text))
    keys = [item.key for item in draft.items]
    assert unit_from(draft).program.insns[0].off == 3
    assert unit_from(draft.without(frozenset(keys[1:2]))).program.insns[0].off == 1


def test_a_function_goes_with_its_calls_and_what_only_it_reaches():
    draft = draft_of(unit(BRANCHES))
    smaller = draft.without_function("twice")
    assert [body.name for body in smaller.bodies] == ["entry", "nothing", "handler"]
    call = next(i for i in draft.items if i.function == "twice")
    here = next(i for i in smaller.items if i.key == call.key)
    assert (here.insn.code, here.insn.dst, here.insn.imm) == (0xB7, 0, 0)
    assert draft.without_function("handler").callback == ""


def test_a_map_goes_when_nothing_refers_to_it():
    draft = draft_of(unit(BRANCHES))
    load = next(i for i in draft.items if i.ref is not None and i.ref.name == ".bss")
    assert ".bss" in unit_from(draft).declared.sections
    assert ".bss" not in unit_from(draft.without(frozenset([load.key]))).declared.sections


def test_simpler_instructions_come_to_an_end():
    first = draft_of(unit(".section tc\nr0 = 0\nexit")).items[0]
    for code in range(256):
        todo = [dataclasses.replace(first, insn=isa.Insn(code, 3, 4, 6, 7), target=first.key)]
        seen = 0
        while todo:
            todo += alternatives(todo.pop())
            seen += 1
            assert seen < 200, f"opcode {code:#x}"


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("r1 = r2", "r9 = r2"), ("r2 += r1", "r2 += r9"), ("r2 = r1", "r2 = r9"),
        ("w1 = 5", "w9 = 5"), ("r3 = *(u8 *)(r1 +1)", "r3 = *(u8 *)(r9 +1)"),
        ("*(u8 *)(r1 +1) = r1", "*(u8 *)(r9 +1) = r9"),
        ("*(u8 *)(r2 +1) = 4", "*(u8 *)(r2 +1) = 4"),
        ("if r1 > r2 goto pc+0", "if r9 > r2 goto pc+0"), ("goto pc+0", "goto pc+0"),
        ("call bpf_loop", "call bpf_loop"), ("r1 = map[m]", "r9 = map[m]"), ("exit", "exit"),
    ],
)  # fmt: skip
def test_another_register(text, changed):
    one, other = (unit(f"{line}\nexit").program.insns[0] for line in (text, changed))
    assert renamed(one, 1, 9) == other


# ---- the search -----------------------------------------------------------------------------


def test_nothing_can_be_taken_away_from_what_it_finds(tmp_path):
    judge = Asked(tmp_path / "x.bpf.o", throws_nine)
    found = search(BRANCHES, judge)
    smallest = found.run(STEPS)
    assert found.complete
    # r1 = r0 of 8, and the callback that adds one: `r0 = 8` stays in a function
    assert smallest.size < 10 < draft_of(unit(BRANCHES)).size
    assert throws_nine(_written(tmp_path, smallest))
    for item in smallest.items:
        data = object_of(smallest.without(frozenset([item.key])))
        assert data is None or not judge(data)


def _written(tmp_path, draft):
    path = tmp_path / "smallest.bpf.o"
    path.write_bytes(object_of(draft))
    return path


def test_it_is_the_same_every_time(tmp_path):
    judge = Asked(tmp_path / "x.bpf.o", throws_nine)
    once, again = search(BRANCHES, judge), search(BRANCHES, judge)
    assert once.run(STEPS) == again.run(STEPS)
    assert (once.tries, once.history) == (again.tries, again.history)


def test_a_scout_who_knows_spares_the_judge(tmp_path):
    judge = Asked(tmp_path / "x.bpf.o", throws_nine)
    scout = Asked(tmp_path / "y.bpf.o", throws_nine)
    found = search(BRANCHES, judge, scout)
    assert found.run(STEPS) == search(BRANCHES, judge).run(STEPS)
    assert found.asked < 12 < scout.count


def test_a_scout_who_errs_costs_tries_but_nothing_else(tmp_path):
    judge = Asked(tmp_path / "x.bpf.o", throws_nine)
    found = search(BRANCHES, judge, lambda _data: True)
    smallest = found.run(STEPS)
    assert throws_nine(_written(tmp_path, smallest))
    assert smallest == search(BRANCHES, judge).run(STEPS)


def test_it_ends_when_tries_or_time_are_used_up(tmp_path):
    judge = Asked(tmp_path / "x.bpf.o", throws_nine)
    for limits in ({"tries": 15}, {"seconds": -1}):
        found = search(BRANCHES, judge, **limits)
        smallest = found.run(STEPS)
        assert not found.complete
        assert found.tries <= 15
        assert throws_nine(_written(tmp_path, smallest))


def test_what_was_confirmed_last_survives_an_interruption(tmp_path):
    judge = Asked(tmp_path / "x.bpf.o", throws_nine)

    def tired(data):
        if judge.count > 30:
            raise KeyboardInterrupt
        return judge(data)

    found = search(BRANCHES, tired)
    with pytest.raises(KeyboardInterrupt):
        found.run(STEPS)
    assert found.confirmed.size < draft_of(unit(BRANCHES)).size
    assert throws_nine(_written(tmp_path, found.confirmed))


# ---- what is the same -----------------------------------------------------------------------

_LOG = """-- BEGIN PROG LOAD LOG --
0: (b7) r1 = 1                        ; R1=1
1: {insn}
{said}
processed 2 insns
-- END PROG LOAD LOG --
"""


def _answer(said, insn="(85) call bpf_throw#123"):
    log = _LOG.format(said=said, insn=insn)
    seen = Observation(Verdict.REJECTED, message=said, errno=22, log=log)
    return Answer("7.3", seen, evidence(log, said))


def test_numbers_and_registers_do_not_matter_but_where_it_is_refused_does():
    said = "Unreleased reference id={} alloc_insn={}\nbpf_throw would lead to reference leak"
    one, other = _answer(said.format(2, 5)), _answer(said.format(1, 0))
    assert key_of(one) == key_of(other)
    at_exit = _answer(
        "Unreleased reference id=2 alloc_insn=5\nBPF_EXIT instruction in main prog would lead to "
        "reference leak", "(95) exit",
    )  # fmt: skip
    assert key_of(one) != key_of(at_exit)
    assert key_of(one) != key_of(_answer("R1 is not a scalar"))
    taken = Answer("7.3", Observation(Verdict.RAN))
    crashed = Answer("7.3", Observation(Verdict.CRASHED))
    assert len({key_of(one), key_of(taken), key_of(crashed)}) == 3


def test_exactness_is_about_every_message():
    said = (
        "invalid access to packet, off=0 size=1, R8(id=0,off=0,r=0)\nR8 {} value is outside of the"
    )
    low, high = (_answer(said.format(w), "(71) r1 = *(u8 *)(r8 +0)") for w in ("min", "max"))
    assert key_of(low) == key_of(high)
    assert key_of(low, exact=True) != key_of(high, exact=True)


def test_kinds_of_instructions():
    kinds = {
        "(85) call bpf_throw#71958": "bpf_throw", "(95) exit": "exit",
        "(71) r1 = *(u8 *)(r8 +0)": "LDX", "": "", "(85) call pc+3": "a function",
    }  # fmt: skip
    assert {text: kind_of(text) for text in kinds} == kinds


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
