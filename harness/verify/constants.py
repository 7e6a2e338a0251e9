# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Branches that 7.3 decides before it follows a path: comparisons of constants.

They are jumps then, so that loops, live registers and recursion are those of what is left. Source:
bpf_compute_const_regs() and bpf_prune_dead_branches() in kernel/bpf/const_fold.c (7.3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.bpf.program import Program, RefKind
from harness.verify.flow import successors
from harness.verify.mapview import MapView, map_views
from harness.verify.rules import rules_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.verify.prediction import Subject

_U64: Final = (1 << 64) - 1
_U32: Final = (1 << 32) - 1
# all that an instruction can name: what it may name is looked at later
_REGISTERS: Final = 16
_SIGNED: Final = {8, 16, 32}


class _Value(NamedTuple):
    """A number, or an address in the content of a section that never changes."""

    number: int
    section: str = ""


_UNKNOWN: Final = _Value(-1, "?")
# None: no path has come here yet
_State = list[_Value | None]


def left_of(subject: Subject) -> Program | None:
    """pruned() of a program; None on a kernel that decides nothing beforehand."""
    if not rules_of(subject.profile).decides_constants:
        return None
    return pruned(subject.program, map_views(subject.obj, subject.program))


def pruned(program: Program, maps: Mapping[str, MapView]) -> Program:
    """The program with jumps in the place of branches whose way is certain."""
    before = _constants(program, maps)
    insns = list(program.insns)
    for pc, insn in enumerate(program.insns):
        state = before[pc]
        taken = _taken(insn, state) if state is not None and _is_branch(insn) else None
        if taken is not None:
            insns[pc] = Insn(isa.JA, 0, 0, insn.off if taken else 0, 0)
    return replace(program, insns=tuple(insns))


def reached(program: Program) -> set[int]:
    """Instructions that jumps lead to from where functions begin."""
    todo = [function.start for function in program.functions]
    seen = set(todo)
    while todo:
        for target in successors(program, todo.pop()):
            if target not in seen and target < len(program.insns):
                seen.add(target)
                todo.append(target)
    return seen


def _is_branch(insn: Insn) -> bool:
    if insn.code == isa.MAY_GOTO or insn.cls not in (Class.JMP, Class.JMP32):
        return False
    return insn.op in isa.JUMP_OPS


def _constants(program: Program, maps: Mapping[str, MapView]) -> list[_State | None]:
    """What is known of registers in front of each instruction."""
    before: list[_State | None] = [None] * len(program.insns)
    todo = [function.start for function in reversed(program.functions)]
    for start in todo:
        before[start] = [_UNKNOWN] * _REGISTERS
    while todo:
        pc = todo.pop()
        state = before[pc]
        assert state is not None
        after = list(state)
        _step(program, maps, pc, after)
        todo += [t for t in successors(program, pc) if t < len(before) and _join(before, t, after)]
    return before


def _join(before: list[_State | None], target: int, after: _State) -> bool:
    known = before[target]
    if known is None:
        before[target] = list(after)
        return True
    changed = False
    for number, (old, new) in enumerate(zip(known, after, strict=True)):
        if old not in (new, _UNKNOWN):
            known[number] = _UNKNOWN
            changed = True
    return changed


def _step(program: Program, maps: Mapping[str, MapView], pc: int, state: _State) -> None:
    """One instruction."""
    insn = program.insns[pc]
    if insn.cls in (Class.ALU, Class.ALU64):
        state[insn.dst] = _computed(insn, state[insn.dst], state[insn.src])
    elif insn.code == isa.LD_IMM64:
        state[insn.dst] = _loaded(program, pc)
    elif insn.code == isa.CALL or insn.cls is Class.LD:
        state[:6] = [_UNKNOWN] * 6
    elif insn.cls is Class.LDX:
        state[insn.dst] = _read(insn, state[insn.src], maps)
    elif insn.cls is Class.STX and insn.mode == "atomic":
        name = isa.ATOMIC_OPS.get(insn.imm, "")
        if name == "cmpxchg":
            state[0] = _UNKNOWN
        elif name.startswith(("fetch_", "xchg")):
            state[insn.src] = _UNKNOWN
        elif name == "load_acquire":
            state[insn.dst] = _UNKNOWN


def _loaded(program: Program, pc: int) -> _Value:
    insn, ref = program.insns[pc], program.refs.get(pc)
    if ref is not None:
        return _Value(ref.offset, ref.name) if ref.kind is RefKind.GLOBAL else _UNKNOWN
    if insn.src:
        return _UNKNOWN
    return _Value(insn.imm & _U32 | (program.insns[pc + 1].imm & _U32) << 32)


def _read(insn: Insn, base: _Value | None, maps: Mapping[str, MapView]) -> _Value:
    if base is None or not base.section or base == _UNKNOWN or base.section not in maps:
        return _UNKNOWN
    content, at = maps[base.section].content, base.number + insn.off
    if content is None or at < 0 or at + insn.size_bytes > len(content):
        return _UNKNOWN
    data = content[at : at + insn.size_bytes]
    return _Value(int.from_bytes(data, "little", signed=insn.mode == "memsx") & _U64)


def _computed(insn: Insn, dst: _Value | None, src: _Value | None) -> _Value:
    made = _arithmetic(insn, dst or _UNKNOWN, src or _UNKNOWN)
    if insn.cls is Class.ALU64 or made == _UNKNOWN:
        return made
    return _UNKNOWN if made.section else _Value(made.number & _U32)


def _arithmetic(insn: Insn, dst: _Value, src: _Value) -> _Value:
    name, number = isa.ALU_OPS.get(insn.op, ""), insn.imm & _U64
    if name == "mov":
        return _moved(insn, src) if insn.uses_register else _Value(number)
    if name in ("add", "sub") and not insn.uses_register and dst != _UNKNOWN:
        by = insn.imm if name == "add" else -insn.imm
        if dst.section:
            return dst._replace(number=dst.number + by)
        return _Value(dst.number + by & _U64)
    if name == "and":
        other = src if insn.uses_register else _Value(number)
        if _Value(0) in (dst, other):
            return _Value(0)
        if not dst.section and not other.section:
            return _Value(dst.number & other.number)
    return _UNKNOWN


def _moved(insn: Insn, src: _Value) -> _Value:
    if not insn.off or src == _UNKNOWN:
        return src
    if src.section or insn.off not in _SIGNED:
        return _UNKNOWN
    half = 1 << insn.off - 1
    return _Value(((src.number & (half << 1) - 1 ^ half) - half) & _U64)


def _taken(insn: Insn, state: _State) -> bool | None:
    """Whether a branch is taken; None: that depends."""
    a, b = state[insn.dst], state[insn.src] if insn.uses_register else _Value(0)
    if not _fits(a) or not _fits(b):
        return None
    assert a is not None
    assert b is not None
    one, other = a.number, b.number if insn.uses_register else insn.imm & _U64
    if insn.cls is Class.JMP32:
        one, other = _low(one), _low(other)
    name = isa.JUMP_OPS[insn.op]
    if name.startswith("s") and name != "set":
        one, other, name = _as_signed(one), _as_signed(other), name[1:]
    return {
        "eq": one == other, "ne": one != other, "gt": one > other, "ge": one >= other,
        "lt": one < other, "le": one <= other, "set": bool(one & other),
    }[name]  # fmt: skip


def _fits(value: _Value | None) -> bool:
    """The kernel keeps constants of 32 bits."""
    return value is not None and not value.section and value.number <= _U32


def _low(number: int) -> int:
    """The low half, its sign extended: orders of both kinds are kept."""
    return ((number & _U32 ^ 1 << 31) - (1 << 31)) & _U64


def _as_signed(number: int) -> int:
    return (number ^ 1 << 63) - (1 << 63)
