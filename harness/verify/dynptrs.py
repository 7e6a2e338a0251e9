# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Dynptrs in two stack slots: made, passed, given back. Their data is not followed.

Source: process_dynptr_func(), mark_stack_slots_dynptr(), unmark_stack_slots_dynptr() in
kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import registers as r
from harness.verify import stack
from harness.verify.frames import DYNPTR_SLOT, EMPTY, INVALID, Slot
from harness.verify.prediction import Category
from harness.verify.registers import Reg, type_name

if TYPE_CHECKING:
    from harness.verify.frames import Frame
    from harness.verify.prototypes import Arg
    from harness.verify.walk import Walk

_BYTES: Final = 16
_KINDS: Final = DYNPTR_SLOT * 8
# kinds that hold a reference while they live
REFERENCED: Final = frozenset({"ringbuf"})


def check(walk: Walk, number: int, arg: Arg, reg: Reg) -> None:
    """An argument that is a dynptr, to be made or made before."""
    if reg.type == r.DYNPTR:
        if arg.uninit or "release" in arg.flags:
            walk.unknown("a callback's dynptr that is made or given back")
        return
    if reg.type != r.STACK:
        words = f"R{number} type={type_name(reg)} expected=fp, dynptr_ptr"
        walk.reject(Category.CALL_TYPE, words, errno=13)
    slots = _slots(reg)
    frame: Frame = walk.state.frames[reg.what]
    if arg.uninit:
        if slots is None:
            walk.reject(
                Category.RESOURCE_LIFETIME,
                _misplaced(reg),
                why=f"R{number} does not point to two whole slots of the stack",
            )
        for at in (0, _BYTES // 2):
            stack.check_bounds(walk, reg, number, at, _BYTES // 2, write=True)
        if _KINDS in (frame.stack.get(at, EMPTY).kinds for at in slots):
            walk.unknown("a dynptr made over another one")
        return
    found = frame.stack.get(slots[0], EMPTY).reg if slots else None
    if "release" in arg.flags and walk.release < (7, 0) and (found is None or not found.ref):
        walk.reject(
            Category.RESOURCE_LIFETIME,
            f"arg {number} is an unacquired reference",
            why=f"R{number} points to no dynptr that holds a reference",
            certain=True,
        )
    if slots is None:
        walk.reject(
            Category.RESOURCE_LIFETIME,
            _misplaced(reg),
            why=f"R{number} does not point to two whole slots of the stack",
            certain=True,
        )
    alive = all(frame.stack.get(at, EMPTY).kinds == _KINDS for at in slots)
    if not alive or found is None or not found.what[2]:
        walk.reject(
            Category.RESOURCE_LIFETIME,
            "Expected an initialized dynptr as {{.*}}",
            why=f"R{number} points to no dynptr that is alive",
            certain=True,
        )
    if arg.what and found.what[1] != arg.what:
        words = f"Expected a dynptr of type {arg.what} as {{{{.*}}}}"
        walk.reject(Category.CALL_TYPE, words)


def _misplaced(reg: Reg) -> str:
    if reg.num is not None:
        return "dynptr has to be at a constant offset"
    return f"cannot pass in dynptr at an offset={reg.off}"


def _slots(reg: Reg) -> tuple[int, int] | None:
    """The two slots of the stack that a dynptr takes; None: no dynptr can lie there."""
    if reg.num is not None or reg.off % 8 or reg.off > -_BYTES:
        return None
    return reg.off >> 3, (reg.off >> 3) + 1


def _place(walk: Walk, reg: Reg) -> tuple[Frame, int]:
    frame: Frame = walk.state.frames[reg.what]
    return frame, reg.off >> 3


def make(walk: Walk, reg: Reg, kind: str, ref: int) -> None:
    """The helper has made one where `reg` points to."""
    frame, key = _place(walk, reg)
    for at, first in ((key, True), (key + 1, False)):
        frame.stack[at] = Slot(_KINDS, Reg(r.NOT_INIT, what=("dynptr", kind, first), ref=ref))


def end(walk: Walk, reg: Reg) -> int:
    """The dynptr that `reg` points to is given back; its reference."""
    frame, key = _place(walk, reg)
    found = frame.stack[key].reg
    assert found is not None
    for at in (key, key + 1):
        frame.stack[at] = Slot(INVALID * 8)
    return found.ref
