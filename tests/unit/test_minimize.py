# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Shrinking programs: the search, and what stays right in between."""

import dataclasses
import time

import pytest

from harness.bpf import isa
from harness.bpf.asm import assemble_unit
from harness.bpf.declare import Unit
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.bpf.program import RefKind
from harness.minimize import Search, bytes_of, object_of
from harness.minimize_draft import draft_of, unit_from
from harness.minimize_oracle import key_of, kind_of
from harness.minimize_steps import STEPS, alternatives, renamed
from harness.model import Case, Input, Observation, Verdict
from harness.repro_log import evidence
from harness.repro_report import Answer
from harness.sim import run_case

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
