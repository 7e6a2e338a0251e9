# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that nobody wrote: one to three instructions of a linked program changed at random.

Everything comes from a seed. A changed program is still what libbpf hands over: its functions begin
where they did, maps and kernel functions are the object's.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.bpf import isa
from harness.bpf.isa import ALU_OPS, JUMP_OPS, Class, Insn
from harness.bpf.program import Program

# instruction that is changed -> what comes there: an Insn, or the instruction of that index
Changes = dict[int, Insn | int]

_NOTHING = Insn(isa.JA, 0, 0, 0, 0)
_NUMBERS = (
    0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 100, 255, 256, 511, 512, 4095, 65535,
    0x7FFFFFFF, -1, -2, -4, -8, -16, -64, -512, -0x80000000,
)  # fmt: skip
_STEPS = (1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 64, -64, 512)
_HELPERS = (1, 2, 3, 5, 6, 7, 8, 12, 14, 15, 25, 26, 35, 51, 65, 131, 132, 133, 148, 176, 181)
_JUMPS, _SIZES = (Class.JMP, Class.JMP32), (0x00, 0x08, 0x10, 0x18)
_MEMORY = (Class.LDX, Class.ST, Class.STX)
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Mutant:
    """A program and what was changed in it."""

    program: Program
    changes: Changes

    def __str__(self) -> str:
        return ", ".join(f"{pc}: {new}" for pc, new in sorted(self.changes.items()))


def mutant(program: Program, seed: str) -> Mutant:
    """The same for the same program and seed."""
    rng = random.Random(seed)
    for _ in range(_TRIES):
        changes: Changes = {}
        for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3))):
            changes |= rng.choice(_WAYS)(program, rng)
        changes = {pc: new for pc, new in changes.items() if new not in (pc, program.insns[pc])}
        if changes:
            made = Mutant(changed(program, changes), changes)
            if _same_functions(program, made.program):
                return made
    return Mutant(program, {})


def changed(program: Program, changes: Changes) -> Program:
    """The program with instructions replaced; what they refer to goes and comes along."""
    insns = list(program.insns)
    refs, poisoned, unknown = dict(program.refs), dict(program.poisoned), dict(program.unknown)
    for pc, new in changes.items():
        insns[pc] = new if isinstance(new, Insn) else program.insns[new]
        for table, before in (
            (refs, program.refs), (poisoned, program.poisoned), (unknown, program.unknown),
        ):  # fmt: skip
            table.pop(pc, None)
            if not isinstance(new, Insn) and new in before:
                table[pc] = before[new]
    return replace(program, insns=tuple(insns), refs=refs, poisoned=poisoned, unknown=unknown)


def _same_functions(before: Program, after: Program) -> bool:
    """The kernel finds functions by who refers to them."""
    found = {
        pc + 1 + insn.imm
        for pc, insn in enumerate(after.insns)
        if (insn.code, insn.src) in isa.LEADS_TO_CODE
    }
    if before.exception_callback is not None:
        found.add(before.functions[before.exception_callback].start)
    return found | {0} == {function.start for function in before.functions}


# ---- ways to change an instruction --------------------------------------------------------------


def _narrow(program: Program, rng: random.Random, wanted: Callable[[Insn], object]) -> int | None:
    """An instruction of one slot."""
    seconds = {pc + 1 for pc, insn in enumerate(program.insns) if insn.code == isa.LD_IMM64}
    found = [
        pc
        for pc, insn in enumerate(program.insns)
        if insn.code != isa.LD_IMM64 and pc not in seconds and wanted(insn)
    ]
    return rng.choice(found) if found else None


def _drop(program: Program, rng: random.Random) -> Changes:
    pc = _narrow(program, rng, lambda _: True)
    return {} if pc is None else {pc: _NOTHING}


def _drop_call(program: Program, rng: random.Random) -> Changes:
    pc = _narrow(program, rng, lambda insn: insn.is_call)
    return {} if pc is None else {pc: _NOTHING}


def _copy(program: Program, rng: random.Random) -> Changes:
    pc, other = (_narrow(program, rng, lambda insn: True) for _ in range(2))
    return {} if pc is None or other is None else {pc: _moved(program, other, pc)}


def _swap(program: Program, rng: random.Random) -> Changes:
    pc = _narrow(program, rng, lambda insn: insn.cls not in _JUMPS)
    if pc is None or pc + 1 >= len(program.insns) or program.insns[pc + 1].code == isa.LD_IMM64:
        return {}
    return {pc: _moved(program, pc + 1, pc), pc + 1: _moved(program, pc, pc + 1)}


def _other_call(program: Program, rng: random.Random) -> Changes:
    pc, other = (_narrow(program, rng, lambda insn: insn.is_call) for _ in range(2))
    return {} if pc is None or other is None else {pc: _moved(program, other, pc)}


def _moved(program: Program, source: int, target: int) -> Insn | int:
    """What leads to code still leads there."""
    insn = program.insns[source]
    if (insn.code, insn.src) in isa.LEADS_TO_CODE:
        return replace(insn, imm=insn.imm + source - target)
    return source


def _helper(program: Program, rng: random.Random) -> Changes:
    pc = _narrow(program, rng, lambda insn: insn.is_call and insn.src == 0)
    if pc is None or pc in program.refs:
        return {}
    return {pc: replace(program.insns[pc], imm=rng.choice(_HELPERS))}


def _fields(program: Program, rng: random.Random, wanted: Callable[[Insn], object],
            change: Callable[[Insn], Insn]) -> Changes:  # fmt: skip
    pc = _narrow(program, rng, wanted)
    if pc is None or pc in program.refs or pc in program.poisoned:
        return {}
    return {pc: change(program.insns[pc])}


def _has_number(insn: Insn) -> bool:
    alu_or_jump = insn.cls in (Class.ALU, Class.ALU64, *_JUMPS) and not insn.uses_register
    return (alu_or_jump or insn.cls is Class.ST) and insn.code not in (isa.CALL, isa.EXIT, isa.JA)


def _number(program: Program, rng: random.Random) -> Changes:
    def change(insn: Insn) -> Insn:
        if rng.random() < 0.5:
            return replace(insn, imm=rng.choice(_NUMBERS))
        return replace(insn, imm=_fit(insn.imm + rng.choice(_STEPS), 31))

    return _fields(program, rng, _has_number, change)


def _offset(program: Program, rng: random.Random) -> Changes:
    def change(insn: Insn) -> Insn:
        return replace(insn, off=_fit(insn.off + rng.choice(_STEPS), 15))

    return _fields(program, rng, lambda insn: insn.cls in _MEMORY or _may_jump(insn), change)


def _fit(value: int, bits: int) -> int:
    return max(-(1 << bits), min((1 << bits) - 1, value))


def _may_jump(insn: Insn) -> bool:
    return insn.cls in _JUMPS and (insn.op in JUMP_OPS or insn.code == isa.JA)


def _destination(program: Program, rng: random.Random) -> Changes:
    def change(insn: Insn) -> Insn:
        return replace(insn, dst=rng.randrange(11))

    return _fields(program, rng, lambda i: i.code not in (isa.CALL, isa.EXIT, isa.JA), change)


def _source(program: Program, rng: random.Random) -> Changes:
    def change(insn: Insn) -> Insn:
        return replace(insn, src=rng.randrange(11))

    def wanted(insn: Insn) -> bool:
        return insn.cls in (Class.LDX, Class.STX) or (
            insn.uses_register and (insn.op in JUMP_OPS or insn.op in ALU_OPS)
            and insn.cls is not Class.LD
        )  # fmt: skip

    return _fields(program, rng, wanted, change)


def _operation(program: Program, rng: random.Random) -> Changes:
    def change(insn: Insn) -> Insn:
        operations = JUMP_OPS if insn.cls in _JUMPS else [*ALU_OPS][:-1]
        return replace(insn, code=insn.code & 0x0F | rng.choice([*operations]))

    def wanted(insn: Insn) -> bool:
        jump = insn.cls in _JUMPS and insn.op in JUMP_OPS
        return jump or insn.cls in (Class.ALU, Class.ALU64)

    return _fields(program, rng, wanted, change)


def _width(program: Program, rng: random.Random) -> Changes:
    def change(insn: Insn) -> Insn:
        if insn.cls in _MEMORY:
            return replace(insn, code=insn.code & ~0x18 | rng.choice(_SIZES))
        return replace(insn, code=insn.code ^ 3)  # JMP and JMP32, ALU and ALU64

    def wanted(insn: Insn) -> bool:
        return insn.code not in (isa.CALL, isa.EXIT, isa.JA) and insn.cls is not Class.LD

    return _fields(program, rng, wanted, change)


def _invert(program: Program, rng: random.Random) -> Changes:
    """The other way round: an equal becomes a not equal, a less a greater or equal."""
    opposite = {0x10: 0x50, 0x20: 0xB0, 0x30: 0xA0, 0x60: 0xD0, 0x70: 0xC0}
    opposite |= {after: before for before, after in opposite.items()}

    def change(insn: Insn) -> Insn:
        return replace(insn, code=insn.code & 0x0F | opposite[insn.op])

    return _fields(program, rng, lambda i: i.cls in _JUMPS and i.op in opposite, change)


_WAYS = (
    _drop, _drop, _drop_call, _copy, _copy, _swap, _other_call, _helper, _number, _number, _number,
    _offset, _offset, _destination, _source, _operation, _width, _invert,
)  # fmt: skip
