# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""bpf_local_irq_save() and bpf_local_irq_restore(): interrupts off, in order.

Source: process_irq_flag(), mark_stack_slot_irq_flag() in kernel/bpf/verifier.c (since 6.14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import registers as r
from harness.verify import stack
from harness.verify.frames import EMPTY, INVALID, IRQ_SLOT, Ref, Slot
from harness.verify.prediction import Category
from harness.verify.registers import Reg

if TYPE_CHECKING:
    from harness.verify.frames import Frame
    from harness.verify.walk import Walk

_KINDS: Final = IRQ_SLOT * 8


def _place(walk: Walk) -> tuple[Frame, int]:
    reg = walk.regs[1]
    where = "R1" if walk.release >= (7, 0) else "arg#0"
    if reg.type != r.STACK:
        words = f"{where} doesn't point to an irq flag on stack"
        walk.reject(Category.CALL_TYPE, words)
    key = stack.object_slot(walk, reg, "irq_flag")
    if isinstance(key, str):
        walk.reject(Category.CALL_TYPE, key, why="no flag can lie there")
    return walk.state.frames[reg.what], key


def save(walk: Walk, _name: str) -> Reg:
    """Interrupts go off; the state before is in a stack slot."""
    frame, key = _place(walk)
    if frame.stack.get(key, EMPTY).kinds == _KINDS:
        walk.reject(
            Category.RESOURCE_LIFETIME, "expected uninitialized irq flag as {{.*}}", certain=True
        )
    stack.check_bounds(walk, walk.regs[1], 1, 0, 8, write=True)
    number = walk.new_id()
    walk.state.refs = (*walk.state.refs, Ref("irq", number, walk.pc))
    frame.stack[key] = Slot(_KINDS, Reg(r.NOT_INIT, what=("irq", ""), ref=number))
    return r.UNREADABLE


def restore(walk: Walk, _name: str) -> Reg:
    """Back to what was saved last."""
    frame, key = _place(walk)
    slot = frame.stack.get(key, EMPTY)
    if slot.kinds != _KINDS or slot.reg is None:
        walk.reject(
            Category.RESOURCE_LIFETIME, "expected an initialized irq flag as {{.*}}", certain=True
        )
    last = walk.state.held("irq")[-1]
    if last.id != slot.reg.ref:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            "cannot restore irq state out of order",
            errno=13,
            why=f"the interrupts that instruction {last.pc} switched off come first",
            certain=True,
        )
    walk.state.refs = tuple(each for each in walk.state.refs if each is not last)
    frame.stack[key] = Slot(INVALID * 8)
    return r.UNREADABLE
