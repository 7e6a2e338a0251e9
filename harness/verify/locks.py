# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Spin locks: which one is taken or given back, and what that ends.

Source: process_spin_lock() and invalidate_non_owning_refs() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.verify import registers as r
from harness.verify.frames import Ref
from harness.verify.prediction import Category
from harness.verify.registers import scalar

if TYPE_CHECKING:
    from harness.verify.registers import Reg
    from harness.verify.walk import Walk

_LOCK = "bpf_spin_lock"


def spin(walk: Walk, number: int, reg: Reg, *, take: bool) -> None:
    """bpf_spin_lock() and bpf_spin_unlock() of what R`number` points to."""
    if reg.num is not None:
        walk.reject(
            Category.CALL_TYPE,
            f"R{number} doesn't have constant offset. {_LOCK} has to be at the constant offset",
        )
    where = _place(walk, reg)
    key = identity(reg)
    held = walk.state.held("lock")
    if reg.off != where:
        walk.reject(
            Category.CALL_TYPE,
            f"off {reg.off} doesn't point to 'struct {_LOCK}' that is at {where}",
        )
    if take:
        if held:
            walk.reject(
                Category.EXECUTION_CONTEXT,
                "Locking two bpf_spin_locks are not allowed",
                why="a lock is held already",
                certain=True,
            )
        walk.state.refs = (*walk.state.refs, Ref("lock", reg.id, walk.pc, key))
        return
    if not held:
        walk.reject(
            Category.EXECUTION_CONTEXT, f"{_LOCK}_unlock without taking a lock".replace(
                "lock_unlock", "unlock"), certain=True,
        )  # fmt: skip
    if held[-1].what != key:
        walk.reject(Category.EXECUTION_CONTEXT, "bpf_spin_unlock of different lock", certain=True)
    walk.state.refs = tuple(ref for ref in walk.state.refs if ref is not held[-1])
    forget_non_owning(walk)


def identity(reg: Reg) -> tuple[Any, int]:
    """What a lock is in, and which one of these."""
    return reg.what, reg.id


def _place(walk: Walk, reg: Reg) -> int:
    """Offset of the lock in what `reg` points to."""
    if reg.type == r.MAP_VALUE:
        found: list[int] = [at for kind, at, _ in reg.what.special if kind == _LOCK]
        if not found:
            words = f"map '{reg.what.name}' has no valid {_LOCK}"
            walk.reject(Category.CALL_TYPE, words)
        # a section of globals may have several: the nearest is meant
        return reg.off if reg.off in found else found[0]
    from harness.verify import objects  # noqa: PLC0415  # a circle otherwise

    found = [offset for kind, offset, _ in objects.special(walk, reg) if kind == _LOCK]
    if not found:
        walk.reject(Category.CALL_TYPE, f"local kptr has no valid {_LOCK}")
    return found[0]


def forget_non_owning(walk: Walk) -> None:
    """Pointers to nodes that a list or tree owns are numbers when the lock is given back."""
    for place, key, reg in list(walk.state.places()):
        if reg.flags & r.NON_OWNING and reg.type == r.BTF_ID:
            walk.state.replace(place, key, scalar(walk.domain.unknown))
