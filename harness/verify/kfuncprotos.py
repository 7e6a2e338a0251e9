# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What kernel functions (kfuncs) take and give, and who may call them.

Owns the rows of the functions that harness.sim models and of their neighbours
(kernel/bpf/helpers.c, arena.c, rqspinlock.c of Linux 6.12.107 and 7.3); any other name is not
modelled. The verifier reads arguments off the kernel's BTF: their kinds here are what it makes of
them (get_kfunc_ptr_arg_type()). Checks no register.

    NAME = RESULT (ARGUMENT ...) WORD ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from harness.sim.semantics import PROFILES
from harness.verify.prediction import NotModelled
from harness.verify.prototypes import Arg, parse_arg

# Kinds of arguments: "scalar", "const" (a known number), "type" (id of a type of the program's),
# "ignored", "object" (allocated, owned), "refcounted" (with a bpf_refcount, owned or not),
# "percpu_object", "list_head", "list_node", "rb_root", "rb_node", "less" and "callback"
# (functions), "iter", "irq_flag", "res_lock", "map", "arena_page", "dynptr", "wq", "btf", "mem",
# "size". "!": made by the call, not initialised before.
# Kinds of results: "void", "int", "object", "percpu_object", "list_node", "rb_node", "number" (a
# pointer to an int that an iterator keeps), "arena", "btf", "slice".
# Words: "acquire", "release" (its first owned argument), "sleeps", "rcu" (a pointer that RCU
# protects will do), "generic" (program types that may throw; the others: every type), "new",
# "next", "destroy" (of an iterator), "locked" (allowed while a lock is held), "fastcall".
_ROWS = """
bpf_throw = void (scalar) generic
bpf_obj_new_impl = object? (type ignored) acquire generic
bpf_obj_new = object? (type) acquire generic
bpf_percpu_obj_new_impl = percpu_object? (type ignored) acquire generic
bpf_percpu_obj_new = percpu_object? (type) acquire generic
bpf_obj_drop_impl = void (object ignored) release generic
bpf_obj_drop = void (object) release generic
bpf_percpu_obj_drop_impl = void (percpu_object ignored) release generic
bpf_percpu_obj_drop = void (percpu_object) release generic
bpf_refcount_acquire_impl = object? (refcounted ignored) acquire rcu generic locked
bpf_refcount_acquire = object? (refcounted) acquire rcu generic locked
bpf_list_push_front_impl = int (list_head list_node ignored scalar) generic locked
bpf_list_push_front = int (list_head list_node) generic locked
bpf_list_push_back_impl = int (list_head list_node ignored scalar) generic locked
bpf_list_push_back = int (list_head list_node) generic locked
bpf_list_pop_front = list_node? (list_head) acquire generic locked
bpf_list_pop_back = list_node? (list_head) acquire generic locked
bpf_list_front = list_node? (list_head) generic locked
bpf_list_back = list_node? (list_head) generic locked
bpf_rbtree_add_impl = int (rb_root rb_node less ignored scalar) generic locked
bpf_rbtree_add = int (rb_root rb_node less) generic locked
bpf_rbtree_remove = rb_node? (rb_root rb_node) acquire generic locked
bpf_rbtree_first = rb_node? (rb_root) generic locked
bpf_rbtree_root = rb_node? (rb_root) generic locked
bpf_rbtree_left = rb_node? (rb_root rb_node) generic locked
bpf_rbtree_right = rb_node? (rb_root rb_node) generic locked
bpf_task_acquire = btf:task_struct? (btf:task_struct) acquire rcu generic
bpf_task_release = void (btf:task_struct) release generic
bpf_task_from_pid = btf:task_struct? (scalar) acquire generic
bpf_task_from_vpid = btf:task_struct? (scalar) acquire generic
bpf_cgroup_acquire = btf:cgroup? (btf:cgroup) acquire rcu generic
bpf_cgroup_release = void (btf:cgroup) release generic
bpf_cgroup_ancestor = btf:cgroup? (btf:cgroup scalar) acquire rcu generic
bpf_cgroup_from_id = btf:cgroup? (scalar) acquire generic
bpf_task_under_cgroup = int (btf:task_struct btf:cgroup) rcu generic
bpf_rcu_read_lock = void ()
bpf_rcu_read_unlock = void ()
bpf_preempt_disable = void ()
bpf_preempt_enable = void ()
bpf_local_irq_save = void (irq_flag!)
bpf_local_irq_restore = void (irq_flag)
bpf_res_spin_lock = int (res_lock) locked
bpf_res_spin_unlock = void (res_lock) locked
bpf_res_spin_lock_irqsave = int (res_lock irq_flag!) locked
bpf_res_spin_unlock_irqrestore = void (res_lock irq_flag) locked
bpf_iter_num_new = int (iter:num! scalar scalar) new locked
bpf_iter_num_next = number? (iter:num) next locked
bpf_iter_num_destroy = void (iter:num) destroy locked
bpf_iter_bits_new = int (iter:bits! ignored scalar) new
bpf_iter_bits_next = number? (iter:bits) next
bpf_iter_bits_destroy = void (iter:bits) destroy
bpf_arena_alloc_pages = arena (map ignored scalar scalar scalar) locked
bpf_arena_free_pages = void (map ignored scalar) locked
bpf_arena_reserve_pages = int (map ignored scalar) locked
bpf_dynptr_adjust = int (dynptr scalar scalar)
bpf_dynptr_is_null = int (dynptr)
bpf_dynptr_is_rdonly = int (dynptr)
bpf_dynptr_size = int (dynptr)
bpf_dynptr_clone = int (dynptr dynptr!)
bpf_dynptr_slice = slice?+r (dynptr scalar mem? size)
bpf_dynptr_slice_rdwr = slice? (dynptr scalar mem? size)
bpf_wq_init = int (wq map scalar)
bpf_wq_start = int (wq scalar)
bpf_wq_set_callback_impl = int (wq callback scalar ignored)
bpf_wq_set_callback = int (wq callback scalar)
bpf_rdonly_cast = mem_or_btf (ignored const) fastcall
bpf_cast_to_kern_ctx = btf (ctx) fastcall
bpf_map_sum_elem_count = int (map)
"""
# while a lock is held, before 7.0: is_bpf_graph_api_kfunc()
_GRAPH = ("bpf_list_", "bpf_rbtree_", "bpf_refcount_acquire")
# it sleeps: Linux kernel before 7.0
_SLEPT = frozenset({"bpf_arena_alloc_pages", "bpf_arena_free_pages"})
_SINCE_7 = ("7.3", "cleanup")
# neither in 6.12 nor surely in 6.18
_IN_7_3 = frozenset({
    "bpf_rbtree_root", "bpf_rbtree_left", "bpf_rbtree_right", "bpf_task_from_vpid",
})  # fmt: skip
_WQ_SHORT = frozenset({"bpf_wq_set_callback"})
_WQ_IMPL = frozenset({"bpf_wq_set_callback_impl"})
_ROW = re.compile(r"(\w+) = (\S+) \(([^)]*)\)(.*)")
# functions of the program are called at once, or later
CALLS_BACK = frozenset({"bpf_rbtree_add_impl", "bpf_rbtree_add"})
CALLS_BACK_LATER = frozenset({"bpf_wq_set_callback_impl", "bpf_wq_set_callback"})


@dataclass(frozen=True, slots=True)
class Kfunc:
    """A kernel function as programs may call it."""

    name: str
    args: tuple[Arg, ...]
    returns: Arg
    # "acquire", "release", "sleeps", "rcu", "generic", "new", "next", "destroy", "locked"
    words: frozenset[str]

    def __contains__(self, word: str) -> bool:
        return word in self.words


def kfunc(name: str, profile: str) -> Kfunc | None:
    """What `name` is; None: kernels of the profile have no such function.

    Whether the program's type may call it is allowed(). Raises NotModelled for a name without row.
    """
    found = _rows().get(name)
    if found is None:
        raise NotModelled(f"kernel function {name}")
    if not _exists(name, profile):
        return None
    words = found.words
    if name in _SLEPT and profile not in _SINCE_7:
        words |= {"sleeps"}
    if profile not in _SINCE_7 and not name.startswith(_GRAPH):
        words -= {"locked"}
    if profile == "6.12":
        words -= {"fastcall"}
    return Kfunc(name, found.args, found.returns, words)


def allowed(row: Kfunc, program_type: str, profile: str) -> bool:
    """Whether programs of this type may call it: "calling kernel function NAME is not allowed"."""
    if "generic" not in row.words:
        return True
    return program_type in PROFILES[profile].throw_types


def _exists(name: str, profile: str) -> bool:
    known = PROFILES[profile].extra_kfuncs
    extra = frozenset[str]().union(*(each.extra_kfuncs for each in PROFILES.values()))
    if name in extra:
        return name in known
    if name in _IN_7_3 and profile == "6.18":
        raise NotModelled(f"whether {profile} has {name}")
    if name in _IN_7_3 or name in _WQ_SHORT:
        return profile in _SINCE_7
    if name in _WQ_IMPL:
        return profile not in _SINCE_7
    return True


@cache
def _rows() -> dict[str, Kfunc]:
    found = {}
    for line in _ROWS.split("\n"):
        match = _ROW.fullmatch(line)
        if match is None:
            continue
        name, result, args, words = match.groups()
        found[name] = Kfunc(
            name,
            tuple(parse_arg(each) for each in args.split()),
            parse_arg(result),
            frozenset(words.split()),
        )
    return found
