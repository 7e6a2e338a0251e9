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
# programs that may run in the middle of anything, and members that are given back there
_ANY_MOMENT: Final = frozenset({
    "kprobe", "tracepoint", "perf_event", "raw_tp", "raw_tp_writable", "fentry", "fexit",
    "fmod_ret", "tp_btf",
})  # fmt: skip
_SAFE_ANY_MOMENT: Final = frozenset({
    "bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work", "bpf_refcount",
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


def _drop(walk: Walk, name: str) -> Reg:
    _check_owned(walk, name)
    release(walk, 1)
    return r.UNREADABLE


def _check_owned(walk: Walk, name: str) -> None:
    """What R1 must be to be given back."""
    reg, late = walk.regs[1], walk.release >= (7, 0)
    if reg.const == 0 or reg.flags & r.MAYBE_NULL:
        walk.reject(
            Category.CALL_TYPE,
            f"Possibly NULL pointer passed to trusted {'R1' if late else 'arg0'}",
            errno=13,
            why="R1 may be NULL here",
            fix="compare it with NULL first",
        )
    if not reg.ref:
        walk.reject(
            Category.RESOURCE_LIFETIME,
            _unreferenced(walk, reg, name),
            why="R1 holds no reference that could be given back",
        )
    if reg.off:
        walk.reject(Category.CALL_TYPE, "R1 must have zero offset when passed to release func")
    helpermem.check_fixed(walk, reg, 1)
    if reg.type != r.BTF_ID or reg.flags != r.ALLOC:
        where = "R1" if late else "arg#0"
        walk.reject(Category.CALL_TYPE, f"{where} expected pointer to allocated object")
    tracing = walk.kind in _ANY_MOMENT and not walk.sleepable
    fields = {kind for kind, _, _ in objects.special(walk, reg)}
    if late and tracing and not fields <= _SAFE_ANY_MOMENT:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            f"{name} cannot be used in tracing programs on types with NMI unsafe fields",
            why="the program may run in an interrupt that nothing can hold off, where what the "
            "object has inside cannot be given back",
            certain=True,
        )


def _unreferenced(walk: Walk, reg: Reg, name: str) -> str:
    """The words for something that is not referenced."""
    if walk.release >= (7, 0):
        return f"release kfunc {name} expects referenced PTR_TO_BTF_ID passed to R1"
    trusted = reg.flags & (r.ALLOC | r.TRUSTED | r.NON_OWNING)
    unsafe = reg.flags & ~(r.ALLOC | r.TRUSTED | r.NON_OWNING)
    if reg.type in (*r.SOCKETS, r.MAP_PTR) or (trusted and not unsafe):
        walk.unknown("which refusal an object gets that cannot be dropped")
    return "R1 must be referenced or trusted"


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
