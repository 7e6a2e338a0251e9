# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is known in front of an assertion and behind it: from the model's paths or a kernel's log.

An assertion is a conditional jump one side of which always throws. Owns where they are, what both
sources say of the registers there, and whether they say the same. How it looks:
harness.verify.rangetable. Asks no kernel: a log is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from harness.bpf import isa
from harness.bpf.isa import JUMP_OPS, Class, Insn
from harness.bpf.program import Program, RefKind
from harness.verify import registers as r
from harness.verify.explore import explore
from harness.verify.kernel_log import STALE, Known, Log, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.verify.prediction import Subject
    from harness.verify.registers import Reg

_WIDE: Final = ("umin", "umax", "smin", "smax")
_NARROW: Final = ("umin32", "umax32", "smin32", "smax32")
_BITS: Final = ("value", "mask")


@dataclass(frozen=True, slots=True)
class Assertion:
    """A conditional jump that throws on one side, in the numbering of the linked program."""

    pc: int
    # the first instruction where the condition that is asserted holds
    holds: int
    # registers that the jump compares
    registers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Learnt:
    """States of one source, one for each path that came by; none: no path did, or it is silent."""

    before: tuple[State, ...]
    after: tuple[State, ...]
    # paths were not followed to their end, for states like theirs had been explored
    few: bool = False

    def values(self, register: str, *, after: bool) -> tuple[Known, ...]:
        """The different things that were known of a register, in order of appearance."""
        found: list[Known] = []
        for state in self.after if after else self.before:
            known = state.get(register)
            if known is not None and STALE not in known.fields and known not in found:
                found.append(known)
        return tuple(found)


def assertions(program: Program) -> tuple[Assertion, ...]:
    """All of a linked program, in order."""
    throwing = _throwing(program)
    found = []
    for pc, insn in enumerate(program.insns):
        if not _is_conditional(insn):
            continue
        here, there = pc + 1, pc + 1 + insn.off
        if (here in throwing) == (there in throwing):
            continue
        numbers = dict.fromkeys((insn.dst, insn.src) if insn.uses_register else (insn.dst,))
        holds = there if here in throwing else here
        found.append(Assertion(pc, holds, tuple(f"R{number}" for number in numbers)))
    return tuple(found)


def _is_conditional(insn: Insn) -> bool:
    return insn.cls in (Class.JMP, Class.JMP32) and insn.op in JUMP_OPS


def _throwing(program: Program) -> set[int]:
    """Instructions from which every way leads to a throw."""
    found: set[int] = set()
    while True:
        more = {
            pc
            for pc in range(len(program.insns))
            if pc not in found and _throws(program, pc, found)
        }
        if not more:
            return found
        found |= more


def _throws(program: Program, pc: int, known: set[int]) -> bool:
    insn = program.insns[pc]
    if insn.code == isa.CALL:
        ref = program.refs.get(pc)
        if ref is not None and ref.kind is RefKind.KFUNC and ref.name == "bpf_throw":
            return True
        if insn.src == isa.PSEUDO_CALL and pc + 1 + insn.imm in known:
            return True
        return pc + 1 in known
    if insn.code in (isa.EXIT, isa.CALLX, isa.GOTOX):
        return False
    if insn.code == isa.JA:
        return pc + 1 + insn.off in known
    if insn.code == isa.JA32:
        return pc + 1 + insn.imm in known
    if _is_conditional(insn) or insn.code == isa.MAY_GOTO:
        return pc + 1 in known and pc + 1 + insn.off in known
    return pc + (2 if insn.code == isa.LD_IMM64 else 1) in known


# ---- sources ------------------------------------------------------------------------------------


def of_model(subject: Subject, budget: int, places: Sequence[Assertion]) -> dict[int, Learnt]:
    """Assertion (instruction) -> what the model knows. Raises Rejection, NotModelled."""
    explored = explore(subject, budget, record=True)
    steps = [(origin, pc, state_of(registers)) for origin, pc, registers in explored.steps]
    return _learnt(places, steps, few=explored.pruned)


def of_kernel(log: Log, places: Sequence[Assertion]) -> dict[int, Learnt]:
    """Assertion (instruction) -> what a log of level 2 says."""
    steps = [
        (origin, pc, state) for origin, (pc, state, _) in zip(log.origins, log.steps, strict=True)
    ]
    return _learnt(places, steps, few=bool(log.pruned))


def _learnt(
    places: Sequence[Assertion], steps: Sequence[tuple[int, int, State]], *, few: bool
) -> dict[int, Learnt]:
    found = {}
    for place in places:
        before = tuple(state for _, pc, state in steps if pc == place.pc)
        way = place.pc, place.holds
        after = tuple(state for origin, pc, state in steps if (origin, pc) == way)
        found[place.pc] = Learnt(before, after, few)
    return found


def state_of(registers: Iterable[Reg]) -> State:
    """Registers of the model as the log's reader has those of a kernel."""
    known = ((f"R{number}", known_of(reg)) for number, reg in enumerate(registers))
    return {name: each for name, each in known if each is not None}


def known_of(reg: Reg) -> Known | None:
    """A register of the model as the log's reader has those of a kernel; None: unreadable."""
    if reg.type == r.NOT_INIT:
        return None
    fields = {"r": str(reg.range)} if reg.type in r.PACKETS else {}
    size = getattr(reg.what, "value_size", 0) if reg.type == r.MAP_VALUE else 0
    if size:
        fields["vs"] = str(size)
    kind = r.NAMES[reg.type] if reg.type == r.SCALAR else r.type_name(reg)
    kind = kind.replace("_or_null", "", 1).replace("or_null_", "", 1)
    number = reg.num
    if number is None:
        return Known(kind, reg.maybe_null, reg.off, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, fields)
    # the flags of a number mean something else
    null, off = (False, 0) if reg.type == r.SCALAR else (reg.maybe_null, reg.off)
    return Known(
        kind, null, off, number.umin, number.umax, number.smin, number.smax, *number.narrow[:4],
        number.tnum.value, number.tnum.mask, fields,
    )  # fmt: skip


# ---- agreement ----------------------------------------------------------------------------------


def differences(model: Known, kernel: Known) -> tuple[str, ...]:
    """What the two disagree on: "kind", "null", "r", names of bounds; empty where they agree."""
    # of a kernel's types the model has the word in front
    same = kernel.kind.startswith("ptr_") if model.kind == "ptr_" else model.kind == kernel.kind
    if not same:
        return ("kind",)
    found = [] if model.null == kernel.null else ["null"]
    if proven(model) != proven(kernel):
        found.append("r")
    sizes = {known.fields["vs"] for known in (model, kernel) if "vs" in known.fields}
    if len(sizes) > 1:
        found.append("vs")
    one, other = (model, kernel) if model.kind == "scalar" else (_placed(model), _placed(kernel))
    names = _WIDE + _NARROW + _BITS if model.kind == "scalar" else _WIDE
    return (*found, *(name for name in names if getattr(one, name) != getattr(other, name)))


def proven(known: Known) -> int:
    """Bytes behind a packet pointer that are known to be there; below 0: it is behind the end."""
    number = int(known.fields.get("r", "0"), 0)
    # a kernel prints -1 and -2 as hexadecimal numbers of 64 bits
    return number - (1 << 64) if number >= 1 << 63 else number


def _placed(known: Known) -> Known:
    """A pointer's offset in one piece, as far as it can be: unbounded stays what it is."""
    if known.umax - known.umin >= 1 << 63:
        return known
    return replace(
        known,
        off=0,
        umin=known.umin + known.off,
        umax=known.umax + known.off,
        smin=known.smin + known.off,
        smax=known.smax + known.off,
    )


def disagreements(
    model: Sequence[State], kernel: Sequence[State], *, few: tuple[bool, bool] = (False, False)
) -> tuple[str, ...]:
    """Registers that one source knows otherwise on every path of the other.

    Each state of either must have one of the other that says the same of all registers that both
    have. `few`: the model, the kernel ended paths for being like others; its states are fewer
    then, and the other's need no match. Empty where all fits, and where a source has no states.
    """
    if not model or not kernel:
        return ()
    theirs = [min((_unlike(each, state) for each in model), key=len) for state in kernel]
    mine = [min((_unlike(state, each) for each in kernel), key=len) for state in model]
    wrong = [] if few[0] and not all(theirs) else theirs
    wrong = wrong + ([] if few[1] and not all(mine) else mine)
    return tuple(dict.fromkeys(name for names in wrong for name in names))


def _unlike(model: State, kernel: State) -> tuple[str, ...]:
    return tuple(
        name
        for name, known in kernel.items()
        if name in model and STALE not in known.fields and differences(model[name], known)
    )
