# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the verifier model says, and the two exceptions with which its parts say it.

Data only. Where the parts are put together is harness.verify.predict:

    structure, exceptions   raise Rejection before any path is explored
    explore(subject, budget) -> Explored      in harness.verify.explore; raises both
    exceptions              the checks behind exploration: callbacks that throw, depth, stack
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from harness.bpf.elf import Object
from harness.bpf.program import Program
from harness.sim.semantics import Profile


class Verdict(StrEnum):
    """What a kernel of the profile would do with the program."""

    ACCEPT = "accept"
    REJECT = "reject"
    UNKNOWN = "unknown"


class Category(StrEnum):
    """Kind of a rejection: the seven of kernel/bpf/diagnostics.c in 7.3."""

    REGISTER_TYPE = "register-type"
    MEMORY = "memory"
    RESOURCE_LIFETIME = "resource-lifetime"
    CALL_TYPE = "call-type"
    EXECUTION_CONTEXT = "execution-context"
    PROGRAM_STRUCTURE = "program-structure"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a derivation: what was known at an instruction of the path."""

    # index in the linked program, as the kernel's log numbers it; None: of no instruction
    pc: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one program and one profile."""

    verdict: Verdict
    category: Category | None = None
    # index in the linked program, as the kernel's log numbers it
    pc: int | None = None
    # name of the function that holds `pc`
    function: str = ""
    # the kernel's words in that profile: a pattern of harness.logmatch ({{...}} is a regular
    # expression); "" where only the verdict is certain
    message: str = ""
    # positive: 22 for EINVAL; None: not known
    errno: int | None = None
    # our words: the rule of a rejection, or what is not modelled
    why: str = ""
    # how to make it pass
    fix: str = ""
    derivation: tuple[Step, ...] = ()
    # known kernel bugs that the program meets (harness.verify.known_bugs), whatever the verdict
    bugs: tuple[str, ...] = ()
    # instructions that were explored
    explored: int = 0

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return asdict(self)


class Rejection(Exception):  # noqa: N818  # an outcome, not an error
    """A kernel of the profile refuses the program here. Never leaves harness.verify.

    `message` is a pattern in the kernel's words, `errno` positive.
    """

    def __init__(
        self,
        category: Category,
        message: str,
        *,
        errno: int | None = 22,
        pc: int | None = None,
        why: str = "",
        fix: str = "",
        steps: Sequence[Step] = (),
    ) -> None:
        super().__init__(message)
        self.category = category
        self.message = message
        self.errno = errno
        self.pc = pc
        self.why = why
        self.fix = fix
        self.steps = tuple(steps)


class NotModelled(Exception):  # noqa: N818  # an outcome, not an error
    """The model has no answer, and this is why. Never leaves harness.verify."""

    def __init__(self, why: str, *, pc: int | None = None, steps: Sequence[Step] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.pc = pc
        self.steps = tuple(steps)


@dataclass(frozen=True)
class Subject:
    """What is verified: the linked program with the object that has its types and maps.

    `program` is as libbpf would hand it to the kernel; `obj` has BTF, maps, globals, licence.
    """

    obj: Object = field(repr=False)
    program: Program
    profile: Profile


@dataclass(slots=True)
class Explored:
    """What path exploration learnt beyond "no rejection": the checks that come after it need it."""

    # first instructions of functions that a reached call hands to a helper or kfunc as callback
    callbacks: set[int] = field(default_factory=set)
    # of these, the ones that run later (timers, work queues): a stack of their own
    late_callbacks: set[int] = field(default_factory=set)
    # instructions that some path reaches
    seen: set[int] = field(default_factory=set)
    # first instruction of a function -> bytes of stack below its frame that paths touched
    stacks: dict[int, int] = field(default_factory=dict)
    # instructions explored, as the kernel counts "processed N insns"
    insns: int = 0
    # whether some path throws
    threw: bool = False
    # what this kernel accepts at a throw though it should not: sentences, with the instruction
    leaks: set[str] = field(default_factory=set)
    # instruction -> registers in front of it on each path, where explore() was asked to keep them
    states: dict[int, list[Any]] = field(default_factory=dict)
    # the same in the order of exploration: (instruction before, instruction, registers)
    steps: list[tuple[int, int, Any]] = field(default_factory=list)
    # some path ended in front of a state like one that had been explored
    pruned: bool = False
