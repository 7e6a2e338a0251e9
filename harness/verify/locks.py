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
_RESILIENT = "bpf_res_spin_lock"
_MAX_ERRNO = 4095


def spin(walk: Walk, number: int, reg: Reg, *, take: bool) -> None:
    """bpf_spin_lock() and bpf_spin_unlock() of what R`number` points to."""
    _refuse_in_tree(walk, "")
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
                why=f"{walk.state.lock} is held already",
                fix="unlock that one first",
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


def _refuse_in_tree(walk: Walk, kind: str) -> None:
    """in_rbtree_lock_required_cb()."""
    if any(frame.callback is not None and frame.callback.tree for frame in walk.state.frames):
        walk.reject(
            Category.EXECUTION_CONTEXT,
            f"can't {kind}spin_{{lock,unlock}} in rbtree cb",
            errno=13,
            why="the tree's lock is held while its nodes are compared",
            fix="lock and unlock around the call that adds the node",
            certain=True,
        )


def identity(reg: Reg) -> tuple[Any, int]:
    """What a lock is in, and which one of these."""
    return reg.what, reg.id


def resilient(walk: Walk, name: str) -> Reg:
    """bpf_res_spin_lock(), which may fail, and bpf_res_spin_unlock(); gives R0 (since 6.15)."""
    _refuse_in_tree(walk, "res_")
    reg = walk.regs[1]
    pointer = reg.type == r.MAP_VALUE or (reg.type == r.BTF_ID and reg.flags == r.ALLOC)
    if not pointer or reg.num is not None:
        walk.unknown(f"{name}() of what is no map's value or object")
    if reg.off != _place(walk, reg, _RESILIENT):
        walk.unknown(f"{name}() of what is no lock")
    state, key = walk.state, identity(reg)
    held = [ref for ref in state.refs if ref.kind.endswith("lock")]
    if name == "bpf_res_spin_unlock":
        if not held:
            words = "bpf_res_spin_unlock without taking a lock"
            walk.reject(Category.EXECUTION_CONTEXT, words, certain=True)
        if held[-1].what != key or held[-1].kind != "res_lock":
            walk.unknown("resilient locks that are given back in another order")
        state.refs = tuple(ref for ref in state.refs if ref is not held[-1])
        forget_non_owning(walk)
        return r.UNREADABLE
    if any(ref.what == key and ref.kind == "res_lock" for ref in held):
        walk.reject(
            Category.EXECUTION_CONTEXT,
            "Acquiring the same lock again, AA deadlock detected",
            why="this very lock is held already",
            certain=True,
        )
    failed = state.copy()
    errors = scalar(walk.domain.between(-_MAX_ERRNO, -1))
    failed.frames[-1].regs[0:6] = [errors, *[r.UNREADABLE] * 5]
    walk.push(failed, walk.pc + 1)
    state.refs = (*state.refs, Ref("res_lock", reg.id, walk.pc, key))
    return scalar(walk.domain.known(0))


def _place(walk: Walk, reg: Reg, lock: str = _LOCK) -> int:
    """Offset of the lock in what `reg` points to."""
    if reg.type == r.MAP_VALUE:
        found: list[int] = [at for kind, at, _ in reg.what.special if kind == lock]
        if not found:
            words = f"map '{reg.what.kernel_name}' has no valid {lock}"
            walk.reject(Category.CALL_TYPE, words)
        # a section of globals may have several: the nearest is meant
        return reg.off if reg.off in found else found[0]
    from harness.verify import objects  # noqa: PLC0415  # a circle otherwise

    found = [offset for kind, offset, _ in objects.special(walk, reg) if kind == lock]
    if not found:
        walk.reject(Category.CALL_TYPE, f"local 'kptr' has no valid {lock}")
    return found[0]


def forget_non_owning(walk: Walk) -> None:
    """Pointers to nodes that a list or tree owns are numbers when the lock is given back."""
    for place, key, reg in list(walk.state.places()):
        if reg.flags & r.NON_OWNING and reg.type == r.BTF_ID:
            walk.state.replace(place, key, scalar(walk.domain.unknown))
