# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A program that can be taken apart: what stays right when instructions and functions go.

Owns keys instead of indexes: a jump leads to the first instruction that is left at or behind its
target, a call of a function that goes leaves 0 in R0. What to try is harness.minimize_steps'.
"""

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from harness.bpf import isa, opcodes
from harness.bpf.asmtext import needed
from harness.bpf.btfext import Line
from harness.bpf.declare import Unit
from harness.bpf.declared import Declarations
from harness.bpf.isa import Insn
from harness.bpf.program import LinkedFunction, Program, Ref, RefKind

_MOV = 0xB7
ZERO = Insn(_MOV, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Item:
    """One instruction, which is known by its index in the program that all began with."""

    key: int
    insn: Insn
    # imm of the second slot, of wide ones
    high: int | None = None
    # key of what a jump leads to
    target: int | None = None
    # function that is called, or whose address is taken
    function: str = ""
    ref: Ref | None = None
    line: Line | None = field(default=None, compare=False)

    @property
    def is_conditional(self) -> bool:
        """Whether it may jump and may not."""
        return self.target is not None and self.insn.code not in (isa.JA, isa.JA32)


@dataclass(frozen=True, slots=True)
class Body:
    """One function."""

    name: str
    linkage: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Draft:
    """One program while it shrinks; bodies[0] is the program itself."""

    section: str
    bodies: tuple[Body, ...]
    # name of the exception callback, or ""
    callback: str
    declared: Declarations

    @property
    def items(self) -> tuple[Item, ...]:
        """Every instruction, function by function."""
        return tuple(item for body in self.bodies for item in body.items)

    @cached_property
    def size(self) -> int:
        """How many instructions there are; wide ones count once."""
        return sum(len(body.items) for body in self.bodies)

    def mapped(self, change: Callable[[Body], tuple[Item, ...]]) -> "Draft":
        """The same with other instructions in each function."""
        bodies = tuple(replace(body, items=change(body)) for body in self.bodies)
        return replace(self, bodies=bodies)

    def without(self, keys: frozenset[int]) -> "Draft":
        """The same without these instructions; functions that nobody reaches any more go along."""
        return self.mapped(lambda body: tuple(i for i in body.items if i.key not in keys)).pruned()

    def with_items(self, changed: dict[int, Item]) -> "Draft":
        """The same with these instructions in the place of those of their keys."""
        return self.mapped(
            lambda body: tuple(changed.get(item.key, item) for item in body.items)
        ).pruned()

    def without_function(self, name: str) -> "Draft":
        """The same without a function: calls of it and its address become 0."""

        def change(body: Body) -> tuple[Item, ...]:
            return tuple(_nothing(i) if i.function == name else i for i in body.items)

        kept = tuple(body for body in self.bodies if body.name != name)
        callback = "" if self.callback == name else self.callback
        return replace(self, bodies=kept, callback=callback).mapped(change).pruned()

    def pruned(self) -> "Draft":
        """The same without functions that neither calls nor the callback lead to."""
        known = {body.name: body for body in self.bodies}
        reached, todo = set[str](), [self.bodies[0].name, self.callback]
        while todo:
            name = todo.pop()
            if name in known and name not in reached:
                reached.add(name)
                todo += [item.function for item in known[name].items if item.function]
        return replace(self, bodies=tuple(body for body in self.bodies if body.name in reached))


def zero(item: Item, register: int) -> Item:
    """In its place: 0 in a register."""
    return Item(item.key, replace(ZERO, dst=register), line=item.line)


def _nothing(item: Item) -> Item:
    return zero(item, 0 if item.insn.is_call else item.insn.dst)


def draft_of(unit: Unit) -> Draft:
    """Take a program apart."""
    program = unit.program
    names = {function.start: function.name for function in program.functions}
    bodies = tuple(
        Body(f.name, f.linkage, tuple(_items(program, f, names))) for f in program.functions
    )
    callback = ""
    if program.exception_callback is not None:
        callback = program.functions[program.exception_callback].name
    return Draft(program.section, bodies, callback, unit.declared)


def _items(program: Program, function: LinkedFunction, names: dict[int, str]) -> Iterator[Item]:
    pc = function.start
    while pc < function.end:
        insn, high = program.insns[pc], None
        if insn.code == isa.LD_IMM64 and pc + 1 < function.end:
            high = program.insns[pc + 1].imm
        called = names.get(pc + 1 + insn.imm, "")
        function_name = called if (insn.code, insn.src) in isa.LEADS_TO_CODE else ""
        ref = program.refs.get(pc)
        if ref is not None and ref.kind is RefKind.FUNCTION:
            ref = None
        yield Item(pc, insn, high, target_of(insn, pc), function_name, ref, program.lines.get(pc))
        pc += 1 if high is None else 2


def target_of(insn: Insn, pc: int) -> int | None:
    """The index that a jump leads to; None for what is none."""
    form = opcodes.find(insn)
    if form is None or insn.is_call:
        return None
    if "{far}" in form.syntax:
        return pc + 1 + insn.imm
    return pc + 1 + insn.off if "{jump}" in form.syntax else None


def unit_from(draft: Draft) -> Unit | None:
    """Put it together; None for what cannot be: an empty function, a jump out of one."""
    starts, functions, at = {}, [], 0
    for body in draft.bodies:
        if not body.items:
            return None
        starts[body.name] = at
        length = sum(1 if item.high is None else 2 for item in body.items)
        functions.append(LinkedFunction(body.name, at, at + length, body.linkage))
        at += length
    insns: list[Insn] = []
    refs: dict[int, Ref] = {}
    lines: dict[int, Line] = {}
    for body in draft.bodies:
        if not _assemble(body, starts, insns, refs, lines):
            return None
    names = [function.name for function in functions]
    callback = names.index(draft.callback) if draft.callback in names else None
    program = Program(
        names[0], draft.section, tuple(insns), tuple(functions), refs, lines, callback
    )
    unit = Unit(program, draft.declared)
    return Unit(program, needed(unit))


def _assemble(
    body: Body,
    starts: dict[str, int],
    insns: list[Insn],
    refs: dict[int, Ref],
    lines: dict[int, Line],
) -> bool:
    keys, places, pc = [], [], len(insns)
    for item in body.items:
        keys.append(item.key)
        places.append(pc)
        pc += 1 if item.high is None else 2
    for item in body.items:
        pc, insn = len(insns), item.insn
        if item.target is not None:
            nearest = bisect.bisect_left(keys, item.target)
            if nearest == len(keys):
                return False
            far = insn.code == isa.JA32
            distance = places[nearest] - pc - 1
            insn = replace(insn, imm=distance) if far else replace(insn, off=distance)
        elif item.function:
            start = starts.get(item.function)
            if start is None:
                return False
            insn = replace(insn, imm=start - pc - 1)
            if not insn.is_call:
                refs[pc] = Ref(RefKind.FUNCTION, item.function, start)
        if item.ref is not None:
            refs[pc] = item.ref
        if item.line is not None:
            lines[pc] = item.line
        insns.append(insn)
        if item.high is not None:
            insns.append(Insn(0, 0, 0, 0, item.high))
    return True
