# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Calls of kernel functions (kfuncs) with rules of their own, and of those with plain arguments.

Source: check_kfunc_call(), check_kfunc_args(), process_iter_next_call() in
kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.bpf.btf import Kind
from harness.bpf.mapdef import MapType
from harness.verify import graphs, helpermem, irqs, iterators, kfuncprotos, locks, objects, throws
from harness.verify import registers as r
from harness.verify.helpercalls import acquire, release
from harness.verify.loading import absent
from harness.verify.prediction import Category
from harness.verify.registers import Reg

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.verify.walk import Walk

ENDS: Final = -1
_NEW: Final = frozenset({"bpf_obj_new_impl", "bpf_obj_new"})
_DROP: Final = frozenset({"bpf_obj_drop_impl", "bpf_obj_drop"})
_AGAIN: Final = frozenset({"bpf_refcount_acquire_impl", "bpf_refcount_acquire"})
_SLEEPING_ARENA: Final = frozenset({"bpf_arena_alloc_pages", "bpf_arena_free_pages"})
# the same behind a different argument list
_LOCKED: Final = graphs.ALL | _AGAIN
_LOCKED_6_18: Final = frozenset({"bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy"})
# the first argument is a pointer, and no rule of its own comes before that
_POINTER_FIRST: Final = frozenset({
    "bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy", "bpf_local_irq_save",
    "bpf_local_irq_restore", "bpf_res_spin_lock", "bpf_res_spin_unlock", *graphs.ALL,
})  # fmt: skip
# program types whose kernel functions this is about
_COMMON_TYPES: Final = frozenset({
    "tc", "xdp", "syscall", "tracepoint", "perf_event", "cgroup_skb", "cgroup_sock",
    "cgroup_device", "cgroup_sysctl", "cgroup_sockopt", "cgroup_sock_addr", "fentry", "fexit",
    "fmod_ret", "tp_btf", "iter", "lsm",
})  # fmt: skip


def allowed_locked(walk: Walk, name: str) -> bool:
    """Whether a kernel function may be called while a lock is held."""
    if name in _LOCKED:
        return True
    if walk.release >= (6, 16) and name in _LOCKED_6_18:
        return True
    if name.startswith("bpf_res_spin_"):
        return True
    if name in _DROP and walk.release >= (7, 0):
        walk.unknown(f"{name}() while a lock is held")
    row = kfuncprotos.kfunc(name, walk.subject.profile.name)
    return row is not None and "locked" in row


def call(walk: Walk, name: str) -> int:
    """One call; gives the next instruction, or ENDS."""
    if name in absent(walk.subject.profile):
        walk.reject(
            Category.CALL_TYPE,
            f"kfunc '{name}' is referenced but wasn't resolved",
            why=f"kernels of series {walk.subject.profile.name} have no {name}()",
            fix="ask bpf_ksym_exists() first, or run a newer kernel",
            certain=True,
        )
    if name == "bpf_throw":
        throws.throw(walk)
        return ENDS
    if walk.kind not in _COMMON_TYPES:
        _check_allowed(walk, name)
    if name in _POINTER_FIRST:
        helpermem.check_kernel_pointer(walk, 1)
    if name == "bpf_iter_num_next":
        return iterators.step(walk)
    found = _FUNCTIONS.get(name)
    if found is None:
        walk.unknown(f"kernel function {name}")
    result = found(walk, name)
    walk.regs[0:6] = [result] + [r.UNREADABLE] * 5
    return walk.pc + 1


def _check_allowed(walk: Walk, name: str) -> None:
    profile = walk.subject.profile.name
    row = kfuncprotos.kfunc(name, profile)
    if row is None or walk.kind in ("struct_ops", "freplace", ""):
        walk.unknown(f"kernel function {name} in a program of type {walk.kind}")
    if not kfuncprotos.allowed(row, walk.kind, profile):
        walk.reject(
            Category.POLICY,
            f"calling kernel function {name} is not allowed",
            errno=13,
            why=f"programs of type {walk.kind} may not call {name}()",
        )


# ---- read-side sections, preemption -------------------------------------------------------------


def _rcu_lock(walk: Walk, name: str) -> Reg:
    state = walk.state
    if state.rcu and not walk.subject.profile.rcu_nests:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            f"nested rcu read lock (kernel function {name})",
            why="a read-side critical section of RCU is open already",
            certain=True,
        )
    state.rcu += 1
    return r.UNREADABLE


def _rcu_unlock(walk: Walk, name: str) -> Reg:
    state = walk.state
    if not state.rcu:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            f"unmatched rcu read unlock (kernel function {name})",
            why="no read-side critical section of RCU is open",
            certain=True,
        )
    state.rcu -= 1
    if not state.rcu:
        for place, key, reg in list(state.places()):
            if reg.flags & r.RCU:
                new = reg.copy()
                new.flags = reg.flags & ~(r.RCU | r.MAYBE_NULL) | r.UNTRUSTED
                state.replace(place, key, new)
    return r.UNREADABLE


def _preempt_disable(walk: Walk, _name: str) -> Reg:
    walk.state.preempt += 1
    return r.UNREADABLE


def _preempt_enable(walk: Walk, name: str) -> Reg:
    if not walk.state.preempt:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            f"unmatched attempt to enable preemption (kernel function {name})",
            why="preemption is on",
            certain=True,
        )
    walk.state.preempt -= 1
    return r.UNREADABLE


# ---- objects ------------------------------------------------------------------------------------


def _new(walk: Walk, _name: str) -> Reg:
    given = helpermem.check_number(walk, 1)
    if given.const is None:
        walk.reject(Category.CALL_TYPE, "R1 must be a known constant")
    btf = walk.subject.obj.btf
    type_id = given.const & 0xFFFF_FFFF
    if not 0 < type_id < len(btf) or btf.type(type_id).kind is not Kind.STRUCT:
        walk.reject(
            Category.CALL_TYPE,
            "bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct",
        )
    new = objects.new(type_id)
    new.ref = new.id = acquire(walk)
    return new


def _drop(walk: Walk, _name: str) -> Reg:
    _owned(walk, 1)
    release(walk, 1)
    return r.UNREADABLE


def _owned(walk: Walk, at: int) -> Reg:
    reg = walk.regs[at]
    where = f"R{at}" if walk.release >= (7, 0) else f"arg#{at - 1}"
    if reg.type == r.BTF_ID and reg.flags & r.MAYBE_NULL:
        walk.reject(
            Category.CALL_TYPE,
            "Possibly NULL pointer passed to {{(trusted )?(arg#0|R1)}}",
            errno=13,
            fix="compare it with NULL first",
        )
    if reg.type != r.BTF_ID or reg.flags != r.ALLOC:
        if reg.type == r.BTF_ID or reg.const == 0:
            walk.unknown("which refusal an object gets that cannot be dropped")
        walk.reject(Category.CALL_TYPE, f"{where} expected pointer to allocated object")
    if not reg.ref:
        walk.reject(Category.RESOURCE_LIFETIME, "allocated object must be referenced")
    if reg.off or reg.num is not None:
        walk.reject(Category.CALL_TYPE, "R1 must have zero offset when passed to release func")
    return reg


def _check_whole(walk: Walk, name: str) -> None:
    """The object is passed by its first byte."""
    off = walk.regs[1].off
    if not off:
        return
    if walk.release < (7, 0):
        walk.unknown(f"{name}() of a place inside an object: which stable releases look at it")
    walk.reject(
        Category.REGISTER_TYPE,
        f"dereference of modified ptr_ ptr R1 off={off} disallowed",
        errno=13,
        why="the pointer leads into the object, not to its start",
        fix="pass the object: container_of()",
    )


def _again(walk: Walk, name: str) -> Reg:
    reg = walk.regs[1]
    if reg.type != r.BTF_ID or not reg.flags & r.ALLOC or reg.flags & r.MAYBE_NULL:
        walk.unknown(f"{name}() of what is no object")
    _check_whole(walk, name)
    if not any(kind == "bpf_refcount" for kind, _, _ in objects.special(walk, reg)):
        where = "R1" if walk.release >= (7, 0) else "arg#0"
        words = f"{where} doesn't point to a type with bpf_refcount field"
        walk.reject(Category.CALL_TYPE, words)
    new = objects.new(reg.what)
    owning = not reg.flags & r.NON_OWNING and reg.ref
    ref = acquire(walk)
    new.ref = ref
    new.id = ref
    if owning:
        new.flags = r.ALLOC
    return new


# ---- arenas -------------------------------------------------------------------------------------


def _arena(walk: Walk, name: str) -> Reg:
    if not walk.sleepable and not walk.subject.profile.arena_atomic:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            f"program must be sleepable to call sleepable kfunc {name}",
            errno=13,
            certain=True,
        )
    reg = walk.regs[1]
    if reg.type != r.MAP_PTR or reg.what.type != MapType.ARENA:
        walk.unknown(f"{name}() of what is no arena")
    if walk.state.rcu or walk.state.preempt or walk.state.held("irq"):
        walk.unknown(f"{name}() where sleeping may be forbidden")
    arguments = (3, 4, 5) if name == "bpf_arena_alloc_pages" else (3,)
    for at in arguments:
        helpermem.check_number(walk, at)
    return Reg(r.ARENA) if name == "bpf_arena_alloc_pages" else r.UNREADABLE


_FUNCTIONS: Final[dict[str, Callable[[Walk, str], Reg]]] = {
    "bpf_rcu_read_lock": _rcu_lock,
    "bpf_rcu_read_unlock": _rcu_unlock,
    "bpf_preempt_disable": _preempt_disable,
    "bpf_preempt_enable": _preempt_enable,
    "bpf_local_irq_save": irqs.save,
    "bpf_local_irq_restore": irqs.restore,
    "bpf_res_spin_lock": locks.resilient,
    "bpf_res_spin_unlock": locks.resilient,
    "bpf_iter_num_new": iterators.new,
    "bpf_iter_num_destroy": iterators.destroy,
    **dict.fromkeys(_NEW, _new),
    **dict.fromkeys(_DROP, _drop),
    **dict.fromkeys(_AGAIN, _again),
    **dict.fromkeys(_SLEEPING_ARENA, _arena),
    **dict.fromkeys(graphs.ALL, graphs.call),
}
