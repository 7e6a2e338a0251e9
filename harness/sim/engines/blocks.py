# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Basic blocks of a linked program, and what each costs.

A block is a straight line: it starts at a function's first instruction, at the target of a jump,
or behind the end of another; it ends after a jump, an exit, a call of a subprogram, or before the
next block. The budget is charged for the whole block when it is entered, in every engine.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.bpf import isa
from harness.bpf.isa import Insn
from harness.bpf.program import LinkedFunction, Program
from harness.sim.structure import jump_target


@dataclass(frozen=True, slots=True)
class Block:
    """Some instructions of one function that run one after the other."""

    # its instructions, each LD_IMM64 once
    pcs: tuple[int, ...]
    # where it can go on in the same function, the next instruction first
    successors: tuple[int, ...]

    @property
    def start(self) -> int:
        """Its first instruction, by which it is known."""
        return self.pcs[0]

    @property
    def last(self) -> int:
        """Its last instruction."""
        return self.pcs[-1]

    @property
    def cost(self) -> int:
        """What entering it takes from the budget."""
        return len(self.pcs)


def is_subprogram_call(insn: Insn) -> bool:
    """Whether it calls another function of the program."""
    return insn.code == isa.CALL and insn.src == isa.PSEUDO_CALL


def following(pc: int, insn: Insn) -> int:
    """The next instruction: LD_IMM64 takes two slots."""
    return pc + (2 if insn.code == isa.LD_IMM64 else 1)


def blocks_of(program: Program, function: LinkedFunction) -> dict[int, Block]:
    """First instruction -> block, in the order of the code. `check_structure` holds already.

    A successor that is not among the keys leaves the function (LD_IMM64 in its last slot).
    """
    leaders = set(_leaders(program, function))
    return {start: _block(program, function, start, leaders) for start in sorted(leaders)}


def _leaders(program: Program, function: LinkedFunction) -> Iterator[int]:
    yield function.start
    pc, seconds, targets = function.start, set(), set()
    while pc < function.end:
        insn = program.insns[pc]
        target, after = jump_target(pc, insn), following(pc, insn)
        if after == pc + 2:
            seconds.add(pc + 1)
        if target is not None:
            targets.add(target)
        ends = target is not None or insn.code == isa.EXIT or is_subprogram_call(insn)
        if ends and after < function.end:
            yield after
        pc = after
    yield from targets
    # a jump into the middle of LD_IMM64 is no reason to run behind it twice
    yield from (target + 1 for target in targets & seconds if target + 1 < function.end)


def _block(program: Program, function: LinkedFunction, start: int, leaders: set[int]) -> Block:
    pcs, pc = [start], following(start, program.insns[start])
    while pc not in leaders and pc < function.end:
        pcs.append(pc)
        pc = following(pc, program.insns[pc])
    return Block(tuple(pcs), _successors(program, pcs[-1]))


def _successors(program: Program, last: int) -> tuple[int, ...]:
    insn = program.insns[last]
    target, after = jump_target(last, insn), following(last, insn)
    if insn.code in (isa.EXIT, isa.GOTOX):  # of the second nobody knows where it goes
        return ()
    if target is None:
        return (after,)
    if insn.code in (isa.JA, isa.JA32):
        return (target,)
    return (after,) if target == after else (after, target)
