# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Open-coded iterators over numbers: made, advanced and ended in a stack slot.

A loop around bpf_iter_num_next() ends by itself: it is followed until nothing new comes of it.
Source: process_iter_arg(), process_iter_next_call(), mark_stack_slots_iter() in
kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import helpermem, stack
from harness.verify import registers as r
from harness.verify.frames import EMPTY, INVALID, ITER_SLOT, Slot
from harness.verify.helpercalls import acquire
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar

if TYPE_CHECKING:
    from harness.verify.frames import Frame
    from harness.verify.walk import Walk

ENDS: Final = -1
NAME: Final = "iter_num"
ACTIVE: Final = "active"
DRAINED: Final = "drained"
_KINDS: Final = ITER_SLOT * 8
_INT_BYTES: Final = 4


def _place(walk: Walk, *, fresh: bool) -> tuple[Frame, int]:
    """Frame and slot of the iterator in R1."""
    reg = walk.regs[1]
    late = walk.release >= (7, 0)
    if reg.type != r.STACK:
        where = "R1" if late else "arg#0"
        walk.reject(Category.CALL_TYPE, f"{where} expected pointer to an iterator on stack")
    frame, key = walk.state.frames[reg.what], stack.object_slot(walk, reg, "iter")
    if isinstance(key, str):
        walk.reject(
            Category.CALL_TYPE,
            key,
            why="no iterator can lie there",
            fix="pass a variable's address",
        )
    if (frame.stack.get(key, EMPTY).kinds == _KINDS) == fresh:
        wanted = "uninitialized" if fresh else "an initialized"
        walk.reject(
            Category.RESOURCE_LIFETIME,
            f"expected {wanted} {NAME} as {'R1' if late else 'arg #0'}",
            why="the iterator is " + ("alive already" if fresh else "not alive"),
            certain=True,
        )
    return frame, key


def new(walk: Walk, _name: str) -> Reg:
    """bpf_iter_num_new(it, start, end)."""
    frame, key = _place(walk, fresh=True)
    stack.check_bounds(walk, walk.regs[1], 1, 0, 8, write=True)
    for at in (2, 3):
        helpermem.check_number(walk, at)
    ref = acquire(walk)
    frame.stack[key] = Slot(_KINDS, Reg(r.NOT_INIT, what=(NAME, ACTIVE), ref=ref))
    return scalar(walk.domain.unknown)


def _owner(walk: Walk, frame: int, key: int) -> tuple[str, int, int] | None:
    """Whose number a pointer leads to: 7.3 takes it away with the iterator."""
    return (NAME, frame, key) if walk.release >= (7, 0) else None


def destroy(walk: Walk, _name: str) -> Reg:
    """bpf_iter_num_destroy(it)."""
    frame, key = _place(walk, fresh=False)
    reg = frame.stack[key].reg
    assert reg is not None
    state = walk.state
    state.refs = tuple(each for each in state.refs if each.id != reg.ref)
    given = _owner(walk, walk.regs[1].what, key)
    for place, at, held in list(state.places()):
        if given is not None and held.type == r.MEM and held.what == given:
            state.replace(place, at, scalar(walk.domain.unknown))
    frame.stack[key] = Slot(INVALID * 8)
    return r.UNREADABLE


def step(walk: Walk) -> int:
    """bpf_iter_num_next(it): one more now and then, or the end at once."""
    frame, key = _place(walk, fresh=False)
    slot = frame.stack[key]
    old = slot.reg
    assert old is not None
    state = walk.state
    regs = walk.regs
    if old.what[1] == ACTIVE:
        other = state.copy()
        again = other.frames[walk.regs[1].what].stack
        more = old.copy()
        more.size = old.size + 1
        again[key] = Slot(_KINDS, more)
        other.frames[-1].regs[0:6] = [
            Reg(
                r.MEM,
                size=_INT_BYTES,
                flags=r.RDONLY,
                id=walk.new_id(),
                what=_owner(walk, regs[1].what, key),
            ),
            *[r.UNREADABLE] * 5,
        ]
        walk.push(other, walk.pc + 1)
        if state.parent is not None:
            walk.widen_from(other, walk.pc, state.parent.parent)
    done = old.copy()
    done.what = (NAME, DRAINED)
    frame.stack[key] = Slot(_KINDS, done)
    regs[0:6] = [scalar(walk.domain.known(0)), *[r.UNREADABLE] * 5]
    return walk.pc + 1
