# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The state of a path: frames with registers and stack slots, what is held, where it came from.

Copies are shallow: registers and slots are shared and never changed, lists and dicts are copied.
Source: struct bpf_func_state and struct bpf_verifier_state in include/linux/bpf_verifier.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness.verify.registers import STACK, UNREADABLE, Reg

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOT_BYTES: Final = 8
MAX_STACK: Final = 512
# what a byte of the stack holds; lower case never occurs
INVALID: Final = "I"
SPILL: Final = "S"
MISC: Final = "M"
ZERO: Final = "Z"
DYNPTR_SLOT: Final = "D"
ITER_SLOT: Final = "T"
IRQ_SLOT: Final = "Q"
SPECIAL: Final = frozenset({DYNPTR_SLOT, ITER_SLOT, IRQ_SLOT})


class Slot(NamedTuple):
    """Eight bytes of stack."""

    # what each byte holds, the lowest address first
    kinds: str
    # the register that was spilled, or what describes a special object
    reg: Reg | None = None


EMPTY: Final = Slot(INVALID * 8)
ALL_SPILLED: Final = SPILL * 8
ALL_MISC: Final = Slot(MISC * 8)


class Ref(NamedTuple):
    """Something that must be given back."""

    # "ptr", "lock", "irq", "res_lock", "res_lock_irq"
    kind: str
    id: int
    # the instruction that acquired it
    pc: int
    # of a lock: what it is in (map or types), to compare
    what: Any = None
    # the frame that acquired it where that is a callback, else 0
    frame: int = 0


class Callback(NamedTuple):
    """How a frame that a helper or kfunc calls differs from others."""

    # range of R0 at its exit
    low: int
    high: int
    # runs later (timer, work queue)
    late: bool = False
    # compares nodes of a tree whose lock is held
    tree: bool = False


class Frame:
    """One function call."""

    __slots__ = ("callback", "callsite", "function", "regs", "stack", "unrolled")

    def __init__(self, function: int, callsite: int, number: int) -> None:
        # index in the program's functions
        self.function = function
        # instruction of the call; -1: outermost
        self.callsite = callsite
        self.regs: list[Reg] = [UNREADABLE] * 10
        self.regs.append(Reg(STACK, what=number))
        # number of a slot (offset >> 3: -1 is the topmost) -> what it holds
        self.stack: dict[int, Slot] = {}
        self.callback: Callback | None = None
        # how often a callback that it passed was entered
        self.unrolled = 0

    def copy(self) -> Frame:
        """An independent frame with the same content."""
        new = Frame.__new__(Frame)
        new.function = self.function
        new.callsite = self.callsite
        new.regs = self.regs.copy()
        new.stack = self.stack.copy()
        new.callback = self.callback
        new.unrolled = self.unrolled
        return new


class State:
    """A path's state in front of an instruction."""

    __slots__ = (
        "branches", "entry", "frames", "history", "may_goto", "parent", "pc", "preempt", "rcu",
        "refs", "trail", "unroll", "widened",
    )  # fmt: skip

    def __init__(self, frame: Frame) -> None:
        self.frames = [frame]
        self.refs: tuple[Ref, ...] = ()
        # nesting of read-side critical sections, and of sections without preemption
        self.rcu = 0
        self.preempt = 0
        # how often a may_goto fell through, how deep a callback's loop is unrolled
        self.may_goto = 0
        self.unroll = 0
        self.pc = 0
        # the recorded state that this one came from
        self.parent: State | None = None
        # of a recorded state: paths from it that are not explored to their end
        self.branches = 1
        # entries of jump history since the parent, roughly as the kernel counts them
        self.history = 0
        # which entry into a late callback this is
        self.entry = 0
        # numbers that a loop changes were forgotten, to see whether it converges
        self.widened = False
        # the branches behind it, innermost first: (earlier trail, pc, taken)
        self.trail: tuple[Any, int, bool] | None = None

    @property
    def frame(self) -> Frame:
        """The innermost frame."""
        return self.frames[-1]

    def copy(self) -> State:
        """An independent state with the same content."""
        new = State.__new__(State)
        new.frames = [frame.copy() for frame in self.frames]
        new.refs = self.refs
        new.rcu = self.rcu
        new.preempt = self.preempt
        new.may_goto = self.may_goto
        new.unroll = self.unroll
        new.pc = self.pc
        new.parent = self.parent
        new.branches = 1
        new.history = self.history
        new.entry = self.entry
        new.widened = self.widened
        new.trail = self.trail
        return new

    def held(self, kind: str) -> list[Ref]:
        """What is held of this kind, the oldest first."""
        return [ref for ref in self.refs if ref.kind == kind]

    @property
    def locked(self) -> bool:
        """Whether a spin lock is held."""
        return any(ref.kind.endswith(("lock", "lock_irq")) for ref in self.refs)

    @property
    def lock(self) -> str:
        """The spin lock taken last, for words: "the lock that instruction 7 took"."""
        taken = [ref.pc for ref in self.refs if ref.kind.endswith(("lock", "lock_irq"))]
        return f"the lock that instruction {taken[-1]} took" if taken else "a lock"

    def places(self) -> Iterator[tuple[Any, Any, Reg]]:
        """Every register and spilled register: (list or dict that has it, key, register)."""
        for frame in self.frames:
            for number, reg in enumerate(frame.regs):
                yield frame.regs, number, reg
            for number, slot in frame.stack.items():
                if slot.reg is not None and slot.kinds[0] == SPILL:
                    yield frame.stack, number, slot.reg

    def replace(self, place: Any, key: Any, reg: Reg) -> None:
        """Put another register where places() found one."""
        if isinstance(place, dict):
            place[key] = Slot(place[key].kinds, reg)
        else:
            place[key] = reg
