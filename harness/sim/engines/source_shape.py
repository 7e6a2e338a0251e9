# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What harness.sim.engines.source_text decides before it writes: the shape of a function's text.

Owns where the text has labels, which variables stand for the stack, which registers must say that
they are empty; and the records that the writer and the engine exchange.
"""

from collections import Counter
from dataclasses import dataclass, field

from harness.bpf import isa
from harness.sim.engines.analysis import Facts

# Python allows 100 levels
_MOST_LEVELS = 40
_LONGEST_CHAIN = 60
# blocks of at most this length that end in an exit are written again wherever they are needed
_COPIED = 4


class Unwritable(Exception):  # noqa: N818  # an answer, not an error
    """A function that only the reference engine does; the message says why."""


@dataclass(frozen=True, slots=True)
class Callee:
    """A function that may be called without a frame of the machine."""

    facts: Facts
    # a single block: its text goes where it is called
    inline: bool
    # frames that a call of it may nest, its own included
    nesting: int


@dataclass(slots=True)
class Text:
    """Lines of one function, and where each comes from."""

    lines: list[str] = field(default_factory=list)
    # instruction of each line
    pcs: list[int] = field(default_factory=list)
    # helpers (number), kfuncs and run-time addresses (instruction) that it needs by name
    helpers: set[int] = field(default_factory=set)
    kfuncs: set[int] = field(default_factory=set)
    addresses: set[int] = field(default_factory=set)
    # instructions that are steps of the reference engine
    steps: set[int] = field(default_factory=set)
    # frames that calls without a machine's frame may nest
    nesting: int = 0
    # block where it can be entered -> argument p of the function
    labels: dict[int, int] = field(default_factory=dict)


def slots_of(facts: Facts) -> dict[int, int] | None:
    """Offset -> size of the variables that the stack can be made of; None: it cannot."""
    if not facts.stack_is_private:
        return None
    found: dict[int, int] = {}
    covered = 0
    for access in facts.accesses.values():
        insn = facts.program.insns[access.pc]
        if insn.mode == "atomic" or found.setdefault(access.offset, access.size) != access.size:
            return None
    for offset, size in found.items():
        mask = ((1 << size) - 1) << offset
        if covered & mask:
            return None
        covered |= mask
    return found


def tracked_of(facts: Facts) -> set[int]:
    """Registers of which a call or a caller may ask whether they hold something.

    Their variables must say so; all others are only read where they hold a number.
    """
    maybe = 0
    for block in facts.blocks.values():
        if block.start not in facts.before:
            continue
        for pc, state in facts.states(block):
            code = facts.program.insns[pc].code
            if code == isa.CALL:
                maybe |= state.may & ~state.must
            elif code == isa.EXIT:
                maybe |= state.may & ~state.must & 1
    return {register for register in range(10) if maybe >> register & 1}


def labels_of(facts: Facts) -> list[int]:
    """Blocks that others jump to; every other one is written where it is reached, the only time."""
    edges: Counter[int] = Counter([facts.function.start])
    for start in facts.before:
        edges.update(facts.blocks[start].successors)
    found = {start for start, count in edges.items() if count > 1 and not _copied(facts, start)}
    found.add(facts.function.start)
    waiting = [(start, 0, 0) for start in found]
    while waiting:  # neither the text nor its writer may nest too deep
        start, chain, level = waiting.pop()
        block = facts.blocks.get(start)
        if block is None:
            continue
        for index, after in enumerate(block.successors):
            if after in found:
                continue
            if chain == _LONGEST_CHAIN or level == _MOST_LEVELS:
                found.add(after)
                waiting.append((after, 0, 0))
            else:
                waiting.append((after, chain + 1, level + index))
    return sorted(found & facts.blocks.keys())


def _copied(facts: Facts, start: int) -> bool:
    block = facts.blocks.get(start)
    return block is not None and not block.successors and block.cost <= _COPIED
