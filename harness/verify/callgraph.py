# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who calls whom in a linked program, where it throws, and which functions may throw.

Syntactic: every instruction counts, dead ones too, as in the kernel's walks over whole functions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.bpf.program import LinkedFunction, Program, RefKind

THROW = "bpf_throw"
# enum bpf_func_id of include/uapi/linux/bpf.h
TAIL_CALL = 12
# frames of 7.3
_MOST_DEPTHS = 16


@dataclass(frozen=True, slots=True)
class Site:
    """One instruction that refers to a function of the program."""

    pc: int
    # index in Program.functions
    callee: int
    # takes the function's address (a callback) instead of calling it
    by_address: bool


@dataclass(frozen=True)
class CallGraph:
    """A linked program's calls; functions are numbered as the kernel numbers subprograms."""

    program: Program = field(repr=False)

    @property
    def functions(self) -> tuple[LinkedFunction, ...]:
        """Functions in the kernel's order: by first instruction, the program itself first."""
        return self.program.functions

    @cached_property
    def _index(self) -> dict[int, int]:
        return {function.start: at for at, function in enumerate(self.functions)}

    def index_at(self, start: int) -> int | None:
        """Index of the function whose first instruction is `start`."""
        return self._index.get(start)

    @cached_property
    def sites(self) -> tuple[tuple[Site, ...], ...]:
        """For each function its calls and addresses taken, in order of instructions."""
        return tuple(tuple(self._sites(function)) for function in self.functions)

    def _sites(self, function: LinkedFunction) -> Iterator[Site]:
        for pc, insn in _insns(self.program, function):
            if (insn.code, insn.src) not in isa.LEADS_TO_CODE:
                continue
            callee = self.index_at(pc + 1 + insn.imm)
            if callee is not None:
                yield Site(pc, callee, by_address=insn.code == isa.LD_IMM64)

    @cached_property
    def throws(self) -> tuple[tuple[int, ...], ...]:
        """For each function the instructions that call bpf_throw."""
        found = [pc for pc in sorted(self.program.refs) if is_throw(self.program, pc)]
        return tuple(tuple(pc for pc in found if f.start <= pc < f.end) for f in self.functions)

    @cached_property
    def might_throw(self) -> frozenset[int]:
        """Functions that hold a throw or refer to one that does (might_throw in 7.3's cfg.c)."""
        return self.with_callers({at for at, found in enumerate(self.throws) if found})

    @cached_property
    def tail_calls(self) -> frozenset[int]:
        """Functions with a bpf_tail_call."""
        return self._holding(lambda insn: is_helper(insn, TAIL_CALL))

    @cached_property
    def packet_loads(self) -> frozenset[int]:
        """Functions with LD_ABS or LD_IND."""
        return self._holding(lambda i: i.cls is Class.LD and i.mode in ("abs", "ind"))

    @cached_property
    def at_several_depths(self) -> frozenset[int]:
        """Functions that calls reach at more than one depth, from the program and from globals."""
        depths: list[set[int]] = [set() for _ in self.functions]
        globals_ = [
            at for at, function in enumerate(self.functions) if function.linkage == "global"
        ]
        todo = [(root, 0) for root in {0, *globals_}]
        while todo:
            at, depth = todo.pop()
            if depth in depths[at] or depth > _MOST_DEPTHS:
                continue
            depths[at].add(depth)
            callees = {site.callee for site in self.sites[at]}
            todo += [(callee, depth + 1) for callee in callees.difference(globals_)]
        return frozenset(at for at, found in enumerate(depths) if len(found) > 1)

    def _holding(self, wanted: Callable[[Insn], bool]) -> frozenset[int]:
        return frozenset(
            at
            for at, function in enumerate(self.functions)
            if any(wanted(insn) for _, insn in _insns(self.program, function))
        )

    def with_callers(self, found: set[int]) -> frozenset[int]:
        """Functions that refer to one of `found`, over any number of others; and these."""
        while True:
            more = {
                at
                for at, sites in enumerate(self.sites)
                if at not in found and any(site.callee in found for site in sites)
            }
            if not more:
                return frozenset(found)
            found |= more


def is_throw(program: Program, pc: int) -> bool:
    """Whether instruction `pc` calls bpf_throw."""
    ref = program.refs.get(pc)
    return ref is not None and ref.kind is RefKind.KFUNC and ref.name == THROW


def is_helper(insn: Insn, number: int) -> bool:
    """Whether an instruction calls helper `number`."""
    return insn.code == isa.CALL and insn.src == isa.HELPER_CALL and insn.imm == number


def _insns(program: Program, function: LinkedFunction) -> Iterator[tuple[int, Insn]]:
    """Instructions with their index, a wide one once."""
    pc = function.start
    while pc < function.end:
        yield pc, program.insns[pc]
        pc += 2 if program.insns[pc].code == isa.LD_IMM64 else 1
