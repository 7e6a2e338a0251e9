# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is known of a function before it runs, so that native code need not check it.

Owns the analysis of one function: which arguments it needs, which registers hold something, which
bytes of its own stack were written, at the start of each block and at each instruction. "Must" is
true on all paths, "may" on some. What is not known is checked at run time: unlike in
harness.sim.engines.analysis no function is left to another engine for what it does not know.
Sets of registers are bits, 1 << number.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.bpf import isa
from harness.bpf.isa import Class, Insn, registers_read
from harness.bpf.link import LinkedFunction, Program
from harness.sim.engines.blocks import Block, blocks_of, is_subprogram_call
from harness.sim.engines.native_insns import accesses, asks_python, stepped
from harness.sim.memory import STACK_BYTES

FRAME = 10
ARGUMENTS = range(1, 6)
ARGUMENT_BITS = 0b11_1110
_ALL = (1 << 11) - 1
# LD_ABS and LD_IND take the context from R6
_PACKET_LOAD = 1 << 6


@dataclass(frozen=True, slots=True)
class Known:
    """What is known at one place: registers, and stack bytes (bit n: byte n, on all paths)."""

    must: int
    may: int
    stack: int


@dataclass(slots=True)
class Facts:
    """One function, analysed."""

    program: Program
    function: LinkedFunction
    index: int
    blocks: dict[int, Block]
    # number of arguments that a helper or kfunc call looks at
    arguments: Callable[[int], int]
    # arguments that must hold something: without them native code is not entered
    needs: int = 0
    # first instruction of a block -> what is known there; absent: never reached
    entries: dict[int, Known] = field(default_factory=dict)
    # registers that are asked at run time whether they hold anything
    asked: int = 0
    # R10 always points above the stack
    fixed_frame: bool = True
    # touches nothing but its own stack, whose bytes are always written first; so do its callees
    pure: bool = False
    # every exit gives R0
    gives_value: bool = False
    # first instructions of the blocks that lie in a loop
    looping: set[int] = field(default_factory=set)
    # instruction that calls a subprogram -> what it calls
    callees: dict[int, "Facts"] = field(default_factory=dict)

    def given(self, pc: int) -> int:
        """Arguments that the call at `pc` looks at, as bits."""
        if pc in self.callees:
            return self.callees[pc].needs
        return (1 << self.arguments(pc) + 1) - 2


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


def reads(insn: Insn) -> int:
    """Registers whose value an instruction needs, calls excepted, as bits."""
    bits = 0
    for register in registers_read(insn):
        bits |= 1 << register
    return bits


def writes(insn: Insn) -> int:
    """Registers that get a value, calls excepted, as bits."""
    if insn.cls in (Class.ALU, Class.ALU64, Class.LD, Class.LDX):
        return 1 << insn.dst
    if insn.cls is Class.STX and insn.mode == "atomic":
        name = isa.ATOMIC_OPS.get(insn.imm, "")
        if name == "load_acquire":
            return 1 << insn.dst
        if name == "cmpxchg":
            return 1
        return 1 << insn.src if name == "xchg" or name.startswith("fetch_") else 0
    return 0


def after(facts: Facts, known: Known, pc: int) -> Known:
    """What is known behind instruction `pc`."""
    program, insn = facts.program, facts.program.insns[pc]
    if insn.code == isa.CALL:
        must, may = known.must & ~(ARGUMENT_BITS | 1), known.may & ~ARGUMENT_BITS | 1
        if pc in facts.callees and facts.callees[pc].gives_value:
            must |= 1
        return Known(must, may, known.stack)
    if stepped(program, pc):
        return Known(1 << FRAME, _ALL, known.stack)
    must, stack = known.must | reads(insn) | writes(insn), known.stack
    if insn.cls in (Class.LDX, Class.ST, Class.STX):
        span, found = own_bytes(insn, facts), accesses(insn)
        if span is not None and found is not None and found[3]:
            stack |= mask(span)
    return Known(must, known.may | must, stack)


def analyse(program: Program, arguments: Callable[[int], int]) -> list[Facts]:
    """Facts of every function of a program, in its order.

    `arguments`: how many registers the helper or kfunc that instruction `pc` calls looks at.
    """
    made = []
    for index, function in enumerate(program.functions):
        facts = Facts(program, function, index, blocks_of(program, function), arguments)
        facts.looping = _looping(facts.blocks)
        code = [program.insns[pc] for block in facts.blocks.values() for pc in block.pcs]
        facts.fixed_frame = not any(writes(insn) >> FRAME & 1 for insn in code)
        made.append(facts)
    by_start = {facts.function.start: facts for facts in made}
    for facts in made:
        for block in facts.blocks.values():
            insn = program.insns[block.last]
            if is_subprogram_call(insn):
                callee = program.function_at(block.last + 1 + insn.imm)
                facts.callees[block.last] = by_start[callee.start]
    growing = True
    while growing:
        growing = False
        for facts in made:
            growing |= _find_needs(facts)
    for facts in _callees_first(made):
        _flow(facts)
        _judge(facts)
    return made


def _looping(blocks: dict[int, Block]) -> set[int]:
    """Blocks between a jump backwards and its target: a guess, only speed depends on it."""
    found: set[int] = set()
    for start, block in blocks.items():
        for target in block.successors:
            if target <= start:
                found.update(s for s in blocks if target <= s <= start)
    return found


def _find_needs(facts: Facts) -> bool:
    """Find the arguments that may be read before they are written; whether there are more now."""
    live = dict.fromkeys(facts.blocks, 0)
    changed = True
    while changed:
        changed = False
        for start, block in reversed(facts.blocks.items()):
            bits = 0
            for successor in block.successors:
                bits |= live.get(successor, 0)
            for pc in reversed(block.pcs):
                insn = facts.program.insns[pc]
                if insn.code == isa.CALL:
                    bits = bits & ~(ARGUMENT_BITS | 1) | facts.given(pc)
                elif insn.code == isa.EXIT:
                    bits = 0
                elif stepped(facts.program, pc):
                    bits |= _stepped_reads(insn)
                else:
                    bits = bits & ~writes(insn) | reads(insn)
            changed |= bits != live[start]
            live[start] = bits
    needs = live[facts.function.start] & ARGUMENT_BITS
    grows = needs != facts.needs
    facts.needs = needs
    return grows


def _stepped_reads(insn: Insn) -> int:
    """Registers that an instruction may look at which the reference interpreter does."""
    if insn.cls is Class.LD and insn.mode in ("abs", "ind"):
        return _PACKET_LOAD | (1 << insn.src if insn.mode == "ind" else 0)
    return ARGUMENT_BITS  # callx; the others only fault


def _callees_first(made: list[Facts]) -> list[Facts]:
    done: dict[int, Facts] = {}

    def visit(facts: Facts, path: frozenset[int]) -> None:
        if facts.index in done or facts.index in path:
            return
        for callee in facts.callees.values():
            visit(callee, path | {facts.index})
        done.setdefault(facts.index, facts)

    for facts in made:
        visit(facts, frozenset())
    return list(done.values())


def _flow(facts: Facts) -> None:
    """Follow all paths until nothing changes: must shrinks, may grows."""
    first = facts.needs | 1 << FRAME
    facts.entries = {facts.function.start: Known(first, first, 0)}
    work = [facts.function.start]
    while work:
        start = work.pop()
        known, block = facts.entries[start], facts.blocks[start]
        for pc in block.pcs:
            known = after(facts, known, pc)
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


def _judge(facts: Facts) -> None:
    """Set `asked`, `pure` and `gives_value` from the flow."""
    pure, gives = facts.fixed_frame, True
    for start, entry in facts.entries.items():
        known = entry
        for pc in facts.blocks[start].pcs:
            insn = facts.program.insns[pc]
            facts.asked |= _asked(facts, pc) & known.may & ~known.must
            pure = pure and _is_pure(facts, known, pc)
            gives = gives and (insn.code != isa.EXIT or bool(known.must & 1))
            known = after(facts, known, pc)
        pure = pure and all(s in facts.blocks for s in facts.blocks[start].successors)
    facts.pure, facts.gives_value = pure, gives


def _asked(facts: Facts, pc: int) -> int:
    """Registers that instruction `pc` wants to know about."""
    insn = facts.program.insns[pc]
    if insn.code == isa.CALL:
        return ARGUMENT_BITS if pc in facts.callees else facts.given(pc)
    return _ALL if stepped(facts.program, pc) else reads(insn)


def _is_pure(facts: Facts, known: Known, pc: int) -> bool:
    insn = facts.program.insns[pc]
    if pc in facts.callees:
        callee = facts.callees[pc]
        direct = not callee.needs & ~known.must and callee.index > 0
        return direct and callee.pure and callee.function.linkage == "static"
    if asks_python(facts.program, pc):
        return False
    if insn.cls not in (Class.LDX, Class.ST, Class.STX):
        return not reads(insn) >> FRAME & 1  # its number is seen
    found = accesses(insn)
    if found is None or (insn.cls is Class.STX and insn.src == FRAME):
        return False
    span = own_bytes(insn, facts)
    return span is not None and (not found[2] or known.stack & mask(span) == mask(span))
