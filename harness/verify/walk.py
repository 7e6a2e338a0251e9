# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What all parts of path exploration share: the program, the state at hand, what was learnt.

Owns no rule; makes rejections with the path behind them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from harness.bpf.mapdef import MapType
from harness.bpf.sections import attach_target, program_type
from harness.verify import origins
from harness.verify.callgraph import CallGraph
from harness.verify.fields import late_problems
from harness.verify.mapview import MapView, map_views
from harness.verify.prediction import Category, Explored, NotModelled, Rejection, Step, Subject
from harness.verify.registers import SCALAR, Reg, register_names, scalar
from harness.verify.scalar import Domain, domain
from harness.verify.signatures import Signature, signature

if TYPE_CHECKING:
    from harness.bpf.isa import Insn
    from harness.bpf.program import Program
    from harness.verify.flow import Flow
    from harness.verify.frames import State

# releases that profiles which are no kernel's are nearest to
_NEAREST = {"series-v1": (6, 6), "cleanup": (7, 3)}
_LONGEST_TRAIL = 24


def release_of(profile: str) -> tuple[int, int]:
    """(major, minor) of a profile's kernel."""
    if profile in _NEAREST:
        return _NEAREST[profile]
    major, _, minor = profile.partition(".")
    return int(major), int(minor)


@dataclass
class Walk:
    """One exploration. `state` and `pc` change with every instruction."""

    subject: Subject
    flow: Flow
    explored: Explored
    # instructions that may be explored
    budget: int
    state: State = field(init=False)
    pc: int = 0
    # where the path at hand came from
    before: int = -1
    # what is still to explore: (state, pc, pc before it)
    todo: list[tuple[State, int, int]] = field(default_factory=list)
    # first instruction -> index of a global function that a reached call leads to
    called: set[int] = field(default_factory=set)
    ids: int = 0
    # jumps and instructions so far, and at the last recorded state
    jumps: int = 0
    jumps_then: int = 0
    insns_then: int = 0
    # loops (with the calls that lead there) that a recorded state is in
    loop_visits: set[tuple[Any, ...]] = field(default_factory=set)
    # instruction -> recorded states
    recorded: dict[int, list[Any]] = field(default_factory=dict)
    explored_states: int = 0
    # instruction -> what it accessed, and whether it worked on addresses of an arena
    pointer_types: dict[int, int] = field(default_factory=dict)
    arena_arithmetic: dict[int, bool] = field(default_factory=dict)
    # function (index) -> its C types
    signatures: dict[int, Signature | None] = field(default_factory=dict)
    # instruction -> registers in front of it, when they are asked for
    kept: dict[int, list[tuple[Reg, ...]]] | None = None

    @cached_property
    def program(self) -> Program:
        """The linked program."""
        return self.subject.program

    @cached_property
    def insns(self) -> tuple[Insn, ...]:
        """Its instructions."""
        return self.subject.program.insns

    @cached_property
    def release(self) -> tuple[int, int]:
        """Kernel whose rules hold."""
        return release_of(self.subject.profile.name)

    @cached_property
    def domain(self) -> Domain:
        """Arithmetic of that kernel."""
        return domain(self.subject.profile.name)

    @cached_property
    def kind(self) -> str:
        """Type of the program, as in harness.bpf.sections."""
        return program_type(self.program.section)

    @cached_property
    def target(self) -> str:
        """What the section says behind the slash."""
        return attach_target(self.program.section)

    @cached_property
    def sleepable(self) -> bool:
        """Whether the program may sleep."""
        head = self.program.section.removeprefix("?").partition("/")[0]
        return head.endswith(".s") or self.kind == "syscall"

    @cached_property
    def sleepers(self) -> frozenset[int]:
        """Functions (index) that may sleep."""
        from harness.verify.sleeping import sleepers  # noqa: PLC0415  # it types a Walk

        return sleepers(self)

    @cached_property
    def at_several_depths(self) -> frozenset[int]:
        """Functions (index) that calls reach at more than one depth."""
        return CallGraph(self.program).at_several_depths

    @cached_property
    def maps(self) -> dict[str, MapView]:
        """Maps and sections of globals, by name."""
        return map_views(self.subject.obj, self.program)

    @cached_property
    def late_problems(self) -> dict[int, str]:
        """Instruction -> what is wrong with its fields, where a kernel looks when it gets there."""
        return late_problems(self.subject)

    @cached_property
    def has_arena(self) -> bool:
        """Whether the program has an arena."""
        return any(view.type == MapType.ARENA for view in self.maps.values())

    @cached_property
    def function_index(self) -> dict[int, int]:
        """First instruction -> index of the function."""
        return {f.start: i for i, f in enumerate(self.program.functions)}

    def new_id(self) -> int:
        """A number that no register has."""
        self.ids += 1
        return self.ids

    def push(self, state: State, pc: int) -> None:
        """Explore `state` from `pc` on later: the one that was pushed last is explored first."""
        state.trail = self.state.trail
        if state.parent is not None:
            state.parent.branches += 1
        self.todo.append((state, pc, self.pc))

    def branch(self, other: State, pc: int) -> None:
        """Go on behind a conditional jump; later with `other` where it leads."""
        self.push(other, pc)
        other.trail = (other.trail, self.pc, True)
        self.state.trail = (self.state.trail, self.pc, False)

    def turn(self, *, taken: bool) -> None:
        """Note a jump that only one way is possible of."""
        self.state.trail = (self.state.trail, self.pc, taken)

    def widen(self, pc: int) -> None:
        """Forget the numbers that changed since the state at hand was in front of `pc` before."""
        self.widen_state(self.state, pc)

    def widen_state(self, state: State, pc: int) -> None:
        """widen_imprecise_scalars(): so that loops converge which the kernel's helpers end.

        The kernel keeps numbers that a rejection could depend on; what is refused behind this is
        therefore not certain.
        """
        self.widen_from(state, pc, state.parent)

    def widen_from(self, state: State, pc: int, since: State | None) -> None:
        """The same, with the recorded states from `since` on backwards."""
        old = earlier(state, pc, since)
        if old is None:
            return
        for one, other in zip(old.frames, state.frames, strict=False):
            for number in range(10):
                if self._differ(one.regs[number], other.regs[number]):
                    other.regs[number] = scalar(self.domain.unknown)
                    state.widened = True
            for key, slot in list(other.stack.items()):
                before = one.stack.get(key)
                if before is None or before.reg is None or slot.reg is None:
                    continue
                if self._differ(before.reg, slot.reg):
                    other.stack[key] = slot._replace(reg=scalar(self.domain.unknown))
                    state.widened = True

    def _differ(self, old: Reg, new: Reg) -> bool:
        return old.type == SCALAR == new.type and old.num != new.num

    def keep(self) -> None:
        """Remember the registers in front of the instruction at hand."""
        assert self.kept is not None
        registers = tuple(self.regs)
        self.kept.setdefault(self.pc, []).append(registers)
        self.explored.steps.append((self.before, self.pc, registers))

    def returns_void(self, index: int) -> bool:
        """Whether a function has the C type void."""
        found = self.signature(index)
        return found is not None and found.returns_void

    def signature(self, index: int) -> Signature | None:
        """What a function takes, by its C types. Raises Rejection, NotModelled."""
        if index not in self.signatures:
            function = self.program.functions[index]
            self.signatures[index] = signature(self.subject, function)
        return self.signatures[index]

    @property
    def regs(self) -> list[Reg]:
        """Registers of the innermost frame."""
        return self.state.frames[-1].regs

    def reject(
        self,
        category: Category,
        message: str,
        *,
        errno: int = 22,
        why: str = "",
        fix: str = "",
        certain: bool = False,
    ) -> NoReturn:
        """Raise the Rejection of the instruction at hand.

        `certain`: it does not depend on what numbers are known.
        """
        if self.state.widened and not certain:
            self.unknown(f"numbers that change in a loop: they may be refused ({message})")
        better, remedy = origins.told(self, message)
        raise Rejection(
            category,
            message,
            errno=errno,
            pc=self.pc,
            why=better or why,
            fix=remedy or fix,
            steps=self.steps(),
        )

    def unknown(self, why: str) -> NoReturn:
        """Raise NotModelled for the instruction at hand."""
        raise NotModelled(why, pc=self.pc, steps=self.steps())

    def steps(self) -> tuple[Step, ...]:
        """The branches that led here, and what is known now."""
        trail = self.state.trail
        found: list[Step] = []
        while trail is not None and len(found) < _LONGEST_TRAIL:
            trail, pc, taken = trail
            found.append(Step(pc, "jump taken" if taken else "jump not taken"))
        found.reverse()
        found.append(Step(self.pc, register_names(self.regs)))
        return tuple(found)


def earlier(state: State, pc: int, since: State | None) -> State | None:
    """find_prev_entry(): the recorded state before this one at the same place, with its calls."""
    old = since
    sites = [frame.callsite for frame in state.frames]
    while old is not None:
        if old.pc == pc and [frame.callsite for frame in old.frames] == sites:
            return old
        old = old.parent
    return None
