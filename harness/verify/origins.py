# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where a register of a refused instruction came from: the reason that stands behind a reason.

For words only: nothing here decides a verdict. The path is run through again from the branches that
led here; where that does not come out (callbacks, may_goto), there is nothing to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.bpf import isa
from harness.bpf.helper_names import name_of
from harness.bpf.isa import Class
from harness.bpf.program import RefKind
from harness.verify.prototypes import CHANGES_PACKET

if TYPE_CHECKING:
    from harness.bpf.isa import Insn
    from harness.bpf.program import Program
    from harness.verify.walk import Walk

_NO_ACCESS = re.compile(r"R(\d+) invalid mem access '(\w+)'")
_NOT_WRITTEN = re.compile(r"R(\d+) !read_ok")
# kernel functions and helpers that take what they are handed
_TAKES = re.compile(
    r"bpf_(\w*_)?(submit|discard|release|drop|destroy|free|push_front|push_back|add|put|xchg)"
    r"(_impl|_dynptr)?"
)
_LONGEST = 100_000
_ARGUMENTS: Final = range(1, 6)
_MOV: Final = frozenset({0xBF, 0xBC})
_FRAME_POINTER: Final = 10
_FILL: Final = 0x79
_SPILL: Final = 0x7B


class Step(NamedTuple):
    """One instruction of the path."""

    pc: int
    # number of the call that it belongs to; 0: the outermost function
    call: int


class Path(NamedTuple):
    """The way to a refused instruction, which is the last step."""

    program: Program
    # first instructions of functions that may move the packet
    movers: frozenset[int]
    steps: list[Step]
    # call -> index of the step that made it
    calls: dict[int, int]


class Origin(NamedTuple):
    """What gave a register its value: "result" of a call, "scratched" by one, "load", "set"."""

    what: str
    # index in the path
    at: int


def told(walk: Walk, message: str) -> tuple[str, str]:
    """Why and fix of a rejection with this message at the instruction at hand; "" each: no better.

    Instructions are named as "instruction N".
    """
    access, unwritten = _NO_ACCESS.fullmatch(message), _NOT_WRITTEN.fullmatch(message)
    if access is None and unwritten is None:
        return "", ""
    path = path_of(walk)
    if path is None:
        return "", ""
    if unwritten is not None:
        return _unwritten(path, int(unwritten[1]))
    assert access is not None
    if access[2] == "scalar":
        return _number(path, int(access[1]))
    return _null(path, int(access[1])) if "or_null" in access[2] else ("", "")


def path_of(walk: Walk) -> Path | None:
    """The path to the instruction at hand; None where the branches alone do not tell."""
    frames = walk.state.frames
    if any(frame.callback for frame in frames):
        return None
    turns: list[tuple[int, bool]] = []
    trail = walk.state.trail
    while trail is not None:
        trail, pc, taken = trail
        turns.append((pc, taken))
    return _Replay(walk, turns).run(walk.program.functions[frames[0].function].start)


class _Replay:
    def __init__(self, walk: Walk, turns: list[tuple[int, bool]]) -> None:
        self.walk = walk
        self.program = walk.program
        # the next one last
        self.turns = turns
        self.steps: list[Step] = []
        self.calls: dict[int, int] = {}
        # (call, where it returns to)
        self.stack = [(0, -1)]

    def run(self, pc: int) -> Path | None:
        while len(self.steps) < _LONGEST:
            self.steps.append(Step(pc, self.stack[-1][0]))
            if not self.turns and pc == self.walk.pc and len(self.stack) == self._depth:
                return Path(self.program, self._movers(), self.steps, self.calls)
            follows = self._next(pc, self.program.insns[pc])
            if follows is None:
                return None
            pc = follows
        return None

    def _movers(self) -> frozenset[int]:
        moves = self.walk.flow.moves_packet
        return frozenset(
            f.start for f, yes in zip(self.program.functions, moves, strict=True) if yes
        )

    @property
    def _depth(self) -> int:
        return len(self.walk.state.frames)

    def _next(self, pc: int, insn: Insn) -> int | None:
        if insn.code == isa.EXIT:
            return self.stack.pop()[1] if len(self.stack) > 1 else None
        if insn.code == isa.CALL:
            return self._call(pc, insn)
        if insn.code == isa.LD_IMM64:
            return pc + 2
        if insn.code in (isa.JA, isa.JA32):
            return pc + 1 + (insn.off if insn.code == isa.JA else insn.imm)
        if insn.code in (isa.MAY_GOTO, isa.CALLX, isa.GOTOX):
            return None
        return self._turn(pc, insn) if insn.cls in (Class.JMP, Class.JMP32) else pc + 1

    def _call(self, pc: int, insn: Insn) -> int:
        if insn.src != isa.PSEUDO_CALL:
            return pc + 1
        start = pc + 1 + insn.imm
        if self.program.function_at(start).linkage == "global":
            return pc + 1
        self.calls[len(self.calls) + 1] = len(self.steps) - 1
        self.stack.append((len(self.calls), pc + 1))
        return start

    def _turn(self, pc: int, insn: Insn) -> int | None:
        if not self.turns:
            return None
        at, taken = self.turns.pop()
        if at != pc:
            return None
        return pc + 1 + insn.off if taken else pc + 1


# ---- backwards ----------------------------------------------------------------------------------


def origin(path: Path, register: int, at: int) -> Origin | None:
    """What gave `register` the value that it has in front of step `at`; None: nothing here."""
    seeker = _Seeker(path, register, path.steps[at].call, at)
    for index in range(at - 1, -1, -1):
        if seeker.done(index):
            return seeker.found
    return None


class _Seeker:
    """Goes back along a path, with the place that holds the value: a register or a stack slot."""

    def __init__(self, path: Path, register: int, call: int, at: int) -> None:
        self.path = path
        self.register = register
        self.call = call
        self.at = at
        # offset from the frame pointer where a spill of it lies
        self.slot: int | None = None
        self.found: Origin | None = None

    def done(self, index: int) -> bool:
        """Look at one step; whether the search is over."""
        pc, owner = self.path.steps[index]
        insn = self.path.program.insns[pc]
        if index == self.path.calls.get(self.call):
            # what it was called with, which the caller has in the same register
            self.call = owner
            return self.slot is not None or self.register not in _ARGUMENTS
        if owner != self.call:
            return False
        if self.slot is not None:
            return self._in_slot(insn, index)
        if insn.code == isa.CALL:
            return self._called(index)
        if insn.code in _MOV and insn.dst == self.register:
            self.register = insn.src
        elif insn.code == _FILL and insn.dst == self.register and insn.src == _FRAME_POINTER:
            self.slot = insn.off
        elif _sets(insn, self.register):
            return self._is("load" if insn.cls is Class.LDX else "set", index)
        return False

    def _is(self, what: str, index: int) -> bool:
        self.found = Origin(what, index)
        return True

    def _in_slot(self, insn: Insn, index: int) -> bool:
        if insn.dst != _FRAME_POINTER or insn.off != self.slot or not _stores(insn):
            return False
        if insn.code != _SPILL:
            return self._is("set", index)
        self.register, self.slot = insn.src, None
        return False

    def _called(self, index: int) -> bool:
        if self.register in _ARGUMENTS:
            return self._is("scratched", index)
        if self.register:
            return False
        inner = next((n for n, made in self.path.calls.items() if made == index), None)
        if inner is None:
            return self._is("result", index)
        # what the function had in R0 at its exit, the last step of its own before this
        steps = self.path.steps
        left = next((i for i in range(self.at - 1, index, -1) if steps[i].call == inner), None)
        self.found = origin(self.path, 0, left) if left is not None else None
        return True


def _stores(insn: Insn) -> bool:
    return insn.cls in (Class.ST, Class.STX)


def _sets(insn: Insn, register: int) -> bool:
    if insn.cls in (Class.ALU, Class.ALU64, Class.LDX) or insn.code == isa.LD_IMM64:
        return insn.dst == register
    return insn.cls is Class.LD and register == 0


# ---- words --------------------------------------------------------------------------------------


def _name(path: Path, at: int) -> str:
    """What a call calls."""
    pc = path.steps[at].pc
    insn, ref = path.program.insns[pc], path.program.refs.get(pc)
    if ref is not None and ref.kind is RefKind.KFUNC:
        return ref.name
    if insn.src == isa.PSEUDO_CALL:
        return path.program.function_at(pc + 1 + insn.imm).name
    return name_of(insn.imm) or f"helper {insn.imm}"


def _at(path: Path, at: int) -> str:
    return f"instruction {path.steps[at].pc}"


def _unwritten(path: Path, register: int) -> tuple[str, str]:
    found = origin(path, register, len(path.steps) - 1)
    if found is None or found.what != "scratched":
        return "", ""
    call = _name(path, found.at)
    why = (
        f"R{register} has no value since the call of {call}() at {_at(path, found.at)}: a call "
        "leaves nothing in R1 to R5"
    )
    return why, "give it a value behind the call, or keep it in R6 to R9 or on the stack"


def _null(path: Path, register: int) -> tuple[str, str]:
    found = origin(path, register, len(path.steps) - 1)
    if found is None or found.what not in ("result", "load"):
        return "", ""
    source = (
        f"what {_name(path, found.at)}() returned at {_at(path, found.at)}"
        if found.what == "result"
        else f"a pointer that {_at(path, found.at)} loaded"
    )
    return f"R{register} is {source}: it may be NULL, and no branch on this path excludes that", ""


def _number(path: Path, register: int) -> tuple[str, str]:
    last = len(path.steps) - 1
    found = origin(path, register, last)
    if found is None:
        return "", ""
    moved = _moved(path, found.at, last)
    if moved is not None and _from_context(path, found):
        why = (
            f"R{register} pointed into the packet until {_name(path, moved)}() at "
            f"{_at(path, moved)}, which may move the packet: no pointer into it holds after that"
        )
        return why, "load data and data_end from the context again behind that call, and compare"
    if found.what == "result":
        return _taken(path, register, found, last)
    if found.what == "load":
        why = (
            f"R{register} is a number that {_at(path, found.at)} read from memory: that it is an "
            "address is nothing the verifier knows"
        )
        return why, ""
    return "", ""


def _from_context(path: Path, found: Origin) -> bool:
    """Whether it came, by additions only, from a field of the context."""
    while found.what == "set":
        insn = path.program.insns[path.steps[found.at].pc]
        if insn.cls is not Class.ALU64 or isa.ALU_OPS.get(insn.op) not in ("add", "sub"):
            return False
        before = origin(path, insn.dst, found.at)
        if before is None:
            return False
        found = before
    # the context is what nothing on the path has made
    base = path.program.insns[path.steps[found.at].pc].src
    return found.what == "load" and origin(path, base, found.at) is None


def _moved(path: Path, since: int, until: int) -> int | None:
    """The first call behind `since` that moves the packet."""
    for at in range(since + 1, until):
        pc = path.steps[at].pc
        insn = path.program.insns[pc]
        if insn.code != isa.CALL:
            continue
        if insn.src == isa.HELPER_CALL and name_of(insn.imm) in CHANGES_PACKET:
            return at
        if insn.src == isa.PSEUDO_CALL and pc + 1 + insn.imm in path.movers:
            return at
    return None


def _taken(path: Path, register: int, found: Origin, last: int) -> tuple[str, str]:
    """A pointer that a call got, and another took."""
    for at in range(found.at + 1, last):
        insn = path.program.insns[path.steps[at].pc]
        if insn.code != isa.CALL or not _TAKES.fullmatch(_name(path, at)):
            continue
        if any(origin(path, number, at) == found for number in _ARGUMENTS):
            why = (
                f"R{register} is what {_name(path, found.at)}() returned at {_at(path, found.at)}; "
                f"{_name(path, at)}() at {_at(path, at)} took it"
            )
            return why, "do not use it after that"
    return "", ""
