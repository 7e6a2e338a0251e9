# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is known of a function before it runs, so that native code need not check it.

Owns the forward analysis of one function: which registers hold something, which bytes of its own
stack were written, at the start of each block and at each instruction. "Must" is true on all paths,
"may" on some. Never wrong, sometimes ignorant: what is not known is checked at run time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.bpf import isa
from harness.bpf.isa import Class, Insn, registers_read
from harness.bpf.link import LinkedFunction, Program
from harness.sim.engines.blocks import Block, blocks_of, is_subprogram_call
from harness.sim.engines.native_alu import alu_name, jump_name
from harness.sim.memory import STACK_BYTES

FRAME = 10
ARGUMENTS = range(1, 6)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known at one place: sets of registers, and a mask of stack bytes."""

    must: frozenset[int]
    may: frozenset[int]
    # bit n: byte n of the stack was written on all paths
    stack: int


@dataclass(slots=True)
class Facts:
    """One function, analysed."""

    program: Program
    function: LinkedFunction
    index: int
    blocks: dict[int, Block]
    # first instruction of a block -> what is known there; absent: never reached
    entries: dict[int, Known] = field(default_factory=dict)
    # registers that are asked at run time whether they hold anything
    asked: set[int] = field(default_factory=set)
    # R10 always points above the stack
    fixed_frame: bool = True
    # touches nothing but its own stack, whose bytes are always written first; so do its callees
    pure: bool = False
    # every exit gives R0
    gives_value: bool = False
    # first instructions of the blocks that lie in a loop
    looping: set[int] = field(default_factory=set)
    # first instructions of the functions that it calls
    callees: set[int] = field(default_factory=set)


def writes(insn: Insn) -> tuple[int, ...]:
    """Registers that get a value, calls excepted."""
    if insn.cls in (Class.ALU, Class.ALU64, Class.LD, Class.LDX):
        return (insn.dst,)
    if insn.cls is Class.STX and insn.mode == "atomic":
        name = isa.ATOMIC_OPS.get(insn.imm, "")
        if name == "load_acquire":
            return (insn.dst,)
        if name == "cmpxchg":
            return (0,)
        return (insn.src,) if name == "xchg" or name.startswith("fetch_") else ()
    return ()


def simple_access(insn: Insn) -> bool:
    """A load, store or atomic in its only valid form; others are left to Python."""
    if insn.cls is Class.LDX:
        return not insn.imm and (insn.mode == "mem" or (insn.mode == "memsx" and insn.code != 0x99))
    if insn.cls is Class.ST:
        return insn.mode == "mem" and not insn.src
    if insn.mode == "mem":
        return not insn.imm
    if insn.mode != "atomic":
        return False
    moves = insn.imm in (0x100, 0x110)
    return insn.imm in isa.ATOMIC_OPS and (insn.size_bytes >= 4 or moves)


def simple(program: Program, pc: int) -> bool:
    """Whether native code does instruction `pc` by itself, calls and jumps excepted."""
    insn = program.insns[pc]
    if insn.cls in (Class.ALU, Class.ALU64):
        return bool(alu_name(insn))
    if insn.code == isa.LD_IMM64:
        ref = program.refs.get(pc)
        plain = ref is None and not insn.src and not insn.off
        return plain or (ref is not None and ref.kind in ("map", "global"))
    return insn.cls in (Class.LDX, Class.ST, Class.STX) and simple_access(insn)


def accesses(insn: Insn) -> tuple[int, int, bool, bool] | None:
    """(base register, offset, reads, writes) of a simple access."""
    if insn.cls is Class.LDX:
        return insn.src, insn.off, True, False
    if insn.cls is Class.ST or (insn.cls is Class.STX and insn.mode == "mem"):
        return insn.dst, insn.off, False, True
    if insn.cls is Class.STX:
        name = isa.ATOMIC_OPS[insn.imm]
        if name == "load_acquire":
            return insn.src, insn.off, True, False
        return insn.dst, insn.off, name != "store_release", True
    return None


def own_bytes(insn: Insn, facts: Facts) -> range | None:
    """Bytes of the function's own stack that an access with R10 touches; None: somewhere else."""
    found = accesses(insn)
    if found is None or found[0] != FRAME or not facts.fixed_frame:
        return None
    start = STACK_BYTES + found[1]
    span = range(start, start + insn.size_bytes)
    return span if start >= 0 and span.stop <= STACK_BYTES else None


def mask(span: range) -> int:
    """Bits of a range of stack bytes."""
    return ((1 << len(span)) - 1) << span.start


def after(facts: Facts, known: Known, pc: int, *, gives: bool) -> Known:
    """What is known behind instruction `pc`; `gives`: a subprogram called there gives R0."""
    program, insn = facts.program, facts.program.insns[pc]
    must, may, stack = set(known.must), set(known.may), known.stack
    if insn.code == isa.CALL:
        must -= {0, *ARGUMENTS}
        may = (may | {0}) - set(ARGUMENTS)
        if gives and is_subprogram_call(insn):
            must.add(0)
        return Known(frozenset(must), frozenset(may), stack)
    if stepped(program, pc):
        return Known(frozenset({FRAME}), frozenset(range(FRAME + 1)), stack)
    must.update(registers_read(insn))
    must.update(writes(insn))
    if insn.cls in (Class.LDX, Class.ST, Class.STX):
        span, found = own_bytes(insn, facts), accesses(insn)
        if span is not None and found is not None and found[3] and insn.imm != 0xF1:
            stack |= mask(span)
    return Known(frozenset(must), frozenset(may | must), stack)


def analyse(program: Program) -> list[Facts]:
    """Facts of every function of a program, in its order."""
    made = []
    for index, function in enumerate(program.functions):
        facts = Facts(program, function, index, blocks_of(program, function))
        code = [program.insns[pc] for block in facts.blocks.values() for pc in block.pcs]
        facts.looping = _looping(facts.blocks)
        facts.fixed_frame = all(FRAME not in writes(insn) for insn in code)
        made.append(facts)
    by_start = {facts.function.start: facts for facts in made}
    for facts in made:
        for block in facts.blocks.values():
            insn = program.insns[block.last]
            if is_subprogram_call(insn):
                facts.callees.add(program.function_at(block.last + 1 + insn.imm).start)
    for facts in _callees_first(made, by_start):
        _flow(facts, by_start)
        _judge(facts, by_start)
    return made


def _looping(blocks: dict[int, Block]) -> set[int]:
    """Blocks between a jump backwards and its target: a guess, only speed depends on it."""
    found: set[int] = set()
    for start, block in blocks.items():
        for target in block.successors:
            if target <= start:
                found.update(s for s in blocks if target <= s <= start)
    return found


def _callees_first(made: list[Facts], by_start: dict[int, Facts]) -> Iterable[Facts]:
    done: dict[int, Facts] = {}

    def visit(facts: Facts, path: frozenset[int]) -> None:
        start = facts.function.start
        if start in done or start in path:
            return
        for callee in sorted(facts.callees):
            visit(by_start[callee], path | {start})
        done.setdefault(start, facts)

    for facts in made:
        visit(facts, frozenset())
    return done.values()


def gives_at(facts: Facts, by_start: dict[int, Facts], pc: int) -> bool:
    """Whether a subprogram that is called at `pc` surely gives R0."""
    insn = facts.program.insns[pc]
    if not is_subprogram_call(insn):
        return False
    return by_start[facts.program.function_at(pc + 1 + insn.imm).start].gives_value


def _flow(facts: Facts, by_start: dict[int, Facts]) -> None:
    """Follow all paths until nothing changes: must shrinks, may grows."""
    first = Known(frozenset({FRAME}), frozenset({FRAME, *ARGUMENTS}), 0)
    facts.entries = {facts.function.start: first}
    work = [facts.function.start]
    while work:
        start = work.pop()
        known, block = facts.entries[start], facts.blocks[start]
        for pc in block.pcs:
            known = after(facts, known, pc, gives=gives_at(facts, by_start, pc))
        for successor in block.successors:
            if successor not in facts.blocks:
                continue
            old = facts.entries.get(successor)
            new = known if old is None else _join(old, known)
            if new != old:
                facts.entries[successor] = new
                work.append(successor)


def _join(one: Known, other: Known) -> Known:
    return Known(one.must & other.must, one.may | other.may, one.stack & other.stack)


def _judge(facts: Facts, by_start: dict[int, Facts]) -> None:
    """Set `asked`, `pure` and `gives_value` from the flow."""
    pure, gives = facts.fixed_frame, True
    for start, known in facts.entries.items():
        for pc in facts.blocks[start].pcs:
            insn = facts.program.insns[pc]
            needed = set(ARGUMENTS) if insn.code == isa.CALL else set(registers_read(insn))
            if stepped(facts.program, pc):
                needed = set(range(FRAME))
            facts.asked |= (needed & known.may) - known.must
            pure = pure and _is_pure(facts, known, pc, by_start)
            gives = gives and (insn.code != isa.EXIT or 0 in known.must)
            known = after(facts, known, pc, gives=gives_at(facts, by_start, pc))
        pure = pure and all(s in facts.blocks for s in facts.blocks[start].successors)
    facts.pure, facts.gives_value = pure, gives


def stepped(program: Program, pc: int) -> bool:
    """Whether the reference interpreter does instruction `pc` for native code."""
    insn = program.insns[pc]
    if insn.cls in (Class.JMP, Class.JMP32):
        return not _is_control(insn)
    return insn.code != isa.LD_IMM64 and not simple(program, pc)


def _is_control(insn: Insn) -> bool:
    known = insn.code in (isa.JA, isa.JA32, isa.EXIT, isa.CALL, isa.MAY_GOTO)
    return known or bool(jump_name(insn))


def _is_pure(facts: Facts, known: Known, pc: int, by_start: dict[int, Facts]) -> bool:
    insn = facts.program.insns[pc]
    if is_subprogram_call(insn):
        callee = by_start[facts.program.function_at(pc + 1 + insn.imm).start]
        return callee.pure and callee.function.linkage == "static"
    if insn.cls in (Class.JMP, Class.JMP32):
        seen = FRAME in registers_read(insn)
        return _is_control(insn) and insn.code != isa.CALL and not seen
    if not simple(facts.program, pc):
        return False
    if insn.cls not in (Class.LDX, Class.ST, Class.STX):
        return FRAME not in registers_read(insn)  # its number is seen
    found = accesses(insn)
    if found is None or (insn.cls is Class.STX and insn.src == FRAME):
        return False
    span = own_bytes(insn, facts)
    return span is not None and (not found[2] or known.stack & mask(span) == mask(span))
