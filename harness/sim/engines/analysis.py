# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What certainly holds at each instruction of a program, for engines that check less at run time.

`analyse(program)` gives one `Facts` per function. Everything is sound for every run, whatever the
caller passes and whatever helpers do, under three obligations of the engine that uses it:

1. Enter a function by `run` only when every argument register of `needs` holds a number;
   otherwise let the reference engine run that activation. (Calls inside the program: `must` at
   the call says which arguments certainly do.)
2. A helper or kfunc that returns None leaves R0 empty. The facts assume that it returned a number:
   when it did not and R0 is in `live_after(pc)`, go on in the reference engine.
3. A function whose `unproven` is not empty belongs to the reference engine.

Registers that are only maybe there flow into calls of helpers and kfuncs, which check for
themselves: `may & ~must` says which.

    facts = analyse(program)
    for function in facts: function.blocks, function.before[block.start].must, ...

Owns no policy: what to do with a fact is each engine's business. Uses no machine.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.bpf import isa
from harness.bpf.isa import Class, Insn, registers_read
from harness.bpf.link import LinkedFunction, Program
from harness.sim.alu import M32, M64, signed
from harness.sim.engines.blocks import Block, blocks_of, is_subprogram_call
from harness.sim.engines.usage import ARGUMENTS, base_register, registers_used, registers_written

STACK_BYTES = 512
_FP = 10
_ENCODED = 16  # registers that an instruction can name; those beyond R10 are always empty
_FAR = 1 << 32
_EMPTY = (None,) * 6
_COMPUTES = frozenset({Class.LD, Class.ALU, Class.ALU64})
_ACCESSES = frozenset({Class.LDX, Class.ST, Class.STX})


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a register held when the function was entered, plus a constant."""

    # "fp": R10; "r1" to "r5": an argument (R1 of a program is its context)
    base: str
    offset: int

    def moved(self, distance: int) -> "Pointer":
        """The same, some bytes further."""
        return Pointer(self.base, self.offset + distance)


# of one register: a known pointer, a known number (0 <= n < 2**64), or nothing known
Value = Pointer | int | None
# on some way it is made of the frame pointer
_MAYBE_FP = Pointer("maybe fp", 0)


class State(NamedTuple):
    """What holds before an instruction. Registers are bits: 1 << number."""

    # certainly hold a number
    must: int
    # may hold one; the others are certainly empty
    may: int
    # by register
    values: tuple[Value, ...]
    # bytes of this frame's stack that were certainly written: bit i is offset i from its start
    # (r10 - 512), so that bit 511 is the byte at r10 - 1
    written: int = 0

    def join(self, other: "State") -> "State":
        """What holds when either may."""
        if self == other:
            return self
        pairs = zip(self.values, other.values, strict=True)
        return State(
            self.must & other.must,
            self.may | other.may,
            tuple(a if a == b else _lost(a, b) for a, b in pairs),
            self.written & other.written,
        )

    def pointer(self, register: int, base: str) -> int | None:
        """Offset of a register that certainly holds `base` plus a constant."""
        value = self.values[register]
        return value.offset if isinstance(value, Pointer) and value.base == base else None


def _lost(*values: Value) -> Value:
    """What is known of a result of `values` of which nothing is known."""
    return _MAYBE_FP if any(_of_frame(value) for value in values) else None


def _of_frame(value: Value) -> bool:
    return isinstance(value, Pointer) and value.base in ("fp", _MAYBE_FP.base)


@dataclass(frozen=True, slots=True)
class Access:
    """One access of this frame's stack at a constant place, in bounds."""

    pc: int
    # from the start of the stack: 0 <= offset <= 512 - size
    offset: int
    size: int
    reads: bool
    writes: bool

    @property
    def mask(self) -> int:
        """Its bytes, as in State.written."""
        return ((1 << self.size) - 1) << self.offset


@dataclass(slots=True)
class Facts:
    """Of one function."""

    program: Program = field(repr=False)
    function: LinkedFunction
    # by first instruction, in the order of the code; those that are never reached included
    blocks: dict[int, Block]
    # argument registers that must hold something at entry, as bits
    needs: int = 0
    # R0 certainly holds a number at every exit
    returns: bool = True
    # first instruction of a block that can be reached -> what holds there
    before: dict[int, State] = field(default_factory=dict)
    # first instruction of a block -> registers that may be read before they are written
    live: dict[int, int] = field(default_factory=dict)
    # instruction that calls a subprogram -> facts of that
    callees: dict[int, "Facts"] = field(default_factory=dict, repr=False)
    # by instruction: registers that it reads (calls excepted) and changes, as bits
    reads: dict[int, int] = field(default_factory=dict, repr=False)
    writes: dict[int, int] = field(default_factory=dict, repr=False)
    # "" or why an empty register may be read
    unproven: str = ""
    # the frame pointer, or something made of it, goes elsewhere than into the base of an access
    # at a constant place in bounds: others may see or change this stack
    fp_escapes: bool = False
    # accesses of the stack at constant places, by instruction
    accesses: dict[int, Access] = field(default_factory=dict)
    # bytes of the stack may be read at a constant place before they are written
    reads_unwritten: bool = False
    # the stack is only used by `accesses`, and everything that is read was written before
    stack_is_private: bool = False

    def states(self, block: Block) -> Iterator[tuple[int, State]]:
        """Each instruction of a block that can be reached, with what holds before it."""
        state = self.before[block.start]
        for pc in block.pcs:
            yield pc, state
            state = _after(self, pc, state)

    def live_after(self, pc: int) -> int:
        """Registers, as bits, that may be used behind instruction `pc` before they are written."""
        block = next(b for b in self.blocks.values() if b.start <= pc <= b.last)
        live = _live_out(block, self.live)
        for at in reversed(block.pcs):
            if at == pc:
                return live
            live = _live_before(self, at, live)
        raise AssertionError(f"{pc} is no instruction")


def analyse(program: Program) -> tuple[Facts, ...]:
    """Facts of each function of a program, in the order of `program.functions`.

    Takes some microseconds for each instruction.
    """
    facts = tuple(Facts(program, f, blocks_of(program, f)) for f in program.functions)
    by_start = {f.function.start: f for f in facts}
    for known in facts:
        for block in known.blocks.values():
            for pc in block.pcs:
                insn = program.insns[pc]
                known.reads[pc], known.writes[pc] = registers_used(insn), registers_written(insn)
            if is_subprogram_call(insn):
                known.callees[pc] = by_start[pc + 1 + insn.imm]
    waiting = list(facts)
    while waiting:  # ends: needs only grow, returns only falls
        known = waiting.pop()
        if _improve(known):
            waiting += [f for f in facts if known in f.callees.values() and f not in waiting]
    for known in facts:
        known.live = _liveness(known, _live_before)
        for block in known.blocks.values():
            if block.start in known.before:
                for pc, state in known.states(block):
                    _judge(known, pc, state)
        known.stack_is_private = not known.fp_escapes and not known.reads_unwritten
    return facts


def _improve(known: Facts) -> bool:
    """One round for one function: whether its callers must look again."""
    before = known.needs, known.returns
    known.needs |= _liveness(known, _needed_before)[known.function.start] & ARGUMENTS
    _flow(known)
    return before != (known.needs, known.returns)


# ---- registers that are read later ----------------------------------------------------------


def _liveness(known: Facts, before: Callable[[Facts, int, int], int]) -> dict[int, int]:
    """Registers in use at the start of each block."""
    live = dict.fromkeys(known.blocks, 0)
    changed = True
    while changed:
        changed = False
        for block in reversed(known.blocks.values()):
            used = _live_out(block, live)
            for pc in reversed(block.pcs):
                used = before(known, pc, used)
            changed |= used != live[block.start]
            live[block.start] = used
    return live


def _live_out(block: Block, live: dict[int, int]) -> int:
    used = 0
    for after in block.successors:
        used |= live.get(after, 0)
    return used


def _needed_before(known: Facts, pc: int, used: int) -> int:
    """What must hold a number before `pc` for what is used behind it; calls check themselves."""
    reads = known.reads[pc]
    if pc in known.callees:
        reads |= known.callees[pc].needs
    elif known.program.insns[pc].code == isa.EXIT:
        reads = 0
    return used & ~known.writes[pc] | reads


def _live_before(known: Facts, pc: int, used: int) -> int:
    """The same with everything that a call or a caller may look at."""
    given = ARGUMENTS if known.program.insns[pc].code == isa.CALL else 0
    return used & ~known.writes[pc] | known.reads[pc] | given


# ---- what holds ---------------------------------------------------------------------------------


def _flow(known: Facts) -> None:
    """Find `before` and `returns` for what is known of the callees."""
    values: list[Value] = [None] * _ENCODED
    values[_FP] = Pointer("fp", 0)
    for register in range(1, 6):
        if known.needs >> register & 1:
            values[register] = Pointer(f"r{register}", 0)
    must = known.needs | 1 << _FP
    entry = State(must, must | ARGUMENTS, tuple(values))
    known.before = {known.function.start: entry}
    waiting = {known.function.start}
    while waiting:
        start = min(waiting)  # in the order of the code: most of the ways to it are known then
        waiting.remove(start)
        block = known.blocks[start]
        for pc, state in known.states(block):
            out = _after(known, pc, state)
        if known.program.insns[block.last].code == isa.EXIT:
            known.returns &= bool(out.must & 1)
        for after in block.successors:
            if after not in known.blocks:
                continue
            old = known.before.get(after)
            new = out if old is None else old.join(out)
            if new != old:
                known.before[after] = new
                waiting.add(after)


def _after(known: Facts, pc: int, state: State) -> State:
    """What holds behind an instruction."""
    insn, gone = known.program.insns[pc], known.writes[pc]
    must, may, values, written = state
    access = _access(insn, pc, state)
    if access is not None and access.writes and access.offset >= 0:
        written |= access.mask
    if not gone:
        return State(must, may, values, written)
    if gone & (gone - 1):  # a call
        there = 1 if pc not in known.callees or known.callees[pc].returns else 0
        return State(must & ~gone | there, may & ~gone | 1, _EMPTY + values[6:], written)
    register = gone.bit_length() - 1
    new = _result(known.program, pc, insn, state) if insn.code & 7 in _COMPUTES else None
    values = (*values[:register], new, *values[register + 1 :])
    return State(must | gone, may | gone, values, written)


def _result(program: Program, pc: int, insn: Insn, state: State) -> Value:
    """Value of the destination of an ALU instruction or LD_IMM64."""
    if insn.code == isa.LD_IMM64:
        plain = pc not in program.refs and not insn.src and pc + 1 < len(program.insns)
        return (program.insns[pc + 1].imm & M32) << 32 | insn.imm & M32 if plain else None
    name = isa.ALU_OPS.get(insn.op, "")
    left = state.values[insn.dst]
    right = state.values[insn.src] if insn.uses_register else insn.imm & M64
    if insn.off or name not in ("mov", "add", "sub"):
        return None
    if insn.cls is Class.ALU:  # only a constant stays known
        return insn.imm & M32 if name == "mov" and not insn.uses_register else None
    if name == "mov":
        return right
    if isinstance(left, Pointer) and isinstance(right, int):
        return _moved(left, right if name == "add" else -right)
    if isinstance(right, Pointer) and isinstance(left, int) and name == "add":
        return _moved(right, left)
    if isinstance(left, int) and isinstance(right, int):
        return (left + right if name == "add" else left - right) & M64
    return None


def _moved(pointer: Pointer, distance: int) -> Value:
    """Far away, nothing is known any more (and no number grows without bound)."""
    offset = signed(pointer.offset + distance)
    if abs(offset) > _FAR:
        return _lost(pointer)
    return pointer if pointer is _MAYBE_FP else Pointer(pointer.base, offset)


# ---- the stack ----------------------------------------------------------------------------------


def _access(insn: Insn, pc: int, state: State) -> Access | None:
    """An access at a constant place of the frame; offset -1 where it is not inside of it."""
    if insn.code & 7 not in _ACCESSES or state.pointer(base_register(insn), "fp") is None:
        return None
    atomic = insn.mode == "atomic"
    moves = isa.ATOMIC_OPS.get(insn.imm, "") if atomic and insn.cls is Class.STX else ""
    reads = insn.cls is Class.LDX or moves not in ("", "store_release")
    place = state.pointer(base_register(insn), "fp") or 0
    offset, size = STACK_BYTES + place + insn.off, insn.size_bytes
    inside = 0 <= offset <= STACK_BYTES - size
    writes = insn.cls is not Class.LDX and moves != "load_acquire"
    return Access(pc, offset if inside else -1, size, reads, writes)


def _judge(known: Facts, pc: int, state: State) -> None:
    """Note what one instruction says about the whole function."""
    insn = known.program.insns[pc]
    empty = 0 if insn.code == isa.EXIT else known.reads[pc] & ~state.must
    if empty and not known.unproven:
        number = (empty & -empty).bit_length() - 1
        known.unproven = f"R{number} may be empty at instruction {pc}"
    if max(insn.dst, insn.src) > _FP and not known.unproven:
        known.unproven = f"R{max(insn.dst, insn.src)} at instruction {pc}"
    access = _access(insn, pc, state)
    if access is not None and access.offset >= 0:
        known.accesses[pc] = access
        known.reads_unwritten |= access.reads and access.mask & ~state.written != 0
    known.fp_escapes |= any(
        _of_frame(state.values[register]) for register in _given_away(insn, access)
    ) or _hides_frame(known, pc, insn, state)


def _given_away(insn: Insn, access: Access | None) -> Iterator[int]:
    """Registers whose value gets out of sight."""
    if insn.code == isa.CALL:
        yield from range(1, 6)
    elif insn.code & 7 not in (Class.ALU, Class.ALU64):
        base = base_register(insn)
        for register in registers_read(insn):
            # the same register may be address and value
            both = insn.cls is Class.STX and insn.src == insn.dst
            if access is None or access.offset < 0 or register != base or both:
                yield register


def _hides_frame(known: Facts, pc: int, insn: Insn, state: State) -> bool:
    """Whether an ALU instruction makes something of the frame pointer that is not one."""
    if insn.code & 7 not in (Class.ALU, Class.ALU64):
        return False
    read = [state.values[register] for register in registers_read(insn)]
    return any(map(_of_frame, read)) and not _of_frame(_result(known.program, pc, insn, state))
