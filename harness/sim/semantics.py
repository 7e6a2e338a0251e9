# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What differs between kernels and the proposal, as data: one frozen record per profile.

Source: the reference table of program types and limits, measured on 6.12.107, 6.18.15 and 7.3.4;
for series-v1 the cover letter and patches of 13 July 2023.
"""

from dataclasses import dataclass, replace

from harness.errors import UsageError

# program types that may call bpf_throw since 6.7 (names as in harness.bpf.sections)
_SINCE_6_7 = frozenset({
    "tc", "xdp", "syscall", "tracepoint", "perf_event", "cgroup_skb", "cgroup_sock",
    "cgroup_device", "cgroup_sysctl", "cgroup_sockopt", "cgroup_sock_addr", "fentry", "fexit",
    "fmod_ret", "tp_btf", "iter", "lsm", "struct_ops", "freplace",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """One kernel's (or proposal's) behaviour."""

    name: str
    # the default callback returns the cookie (merged) or the constant 0 (as proposed)
    default_returns_cookie: bool
    # frames of one call chain, main included
    max_frames: int
    # the count starts again at every global subprogram
    frames_restart_at_global: bool
    # program types that may call bpf_throw
    throw_types: frozenset[str]
    # kernel functions that not every profile has
    extra_kfuncs: frozenset[str] = frozenset()
    # a throw in a static function is accepted with RCU, preemption or IRQ sections open, and
    # leaks them: Linux kernel commit 6c2128505f61 closed it
    static_throw_leaks: bool = False
    # a throw in a global function is accepted whatever its callers hold, and leaks it:
    # Linux kernel commit 3d562d35a044 closed it
    global_throw_leaks: bool = False
    # a global function may be called with preemption off
    calls_global_unpreempted: bool = True
    # RCU read sections nest
    rcu_nests: bool = False
    # what bpf_check_attach_target() calls fentry and fexit programs
    tracing_name: str = "FENTRY/FEXIT"
    # a throw releases what the frames hold, frame by frame (harness.sim.unwind)
    releases_at_throw: bool = False
    # bpf_csum_diff() gives 16 bits: Linux kernel commit 6a4794d5a3e2 (in v6.13)
    csum_diff_folds: bool = False
    # helpers as of 7.3: dynptr sizes of 64 bits, ring buffers that overwrite, newer flags of
    # bpf_skb_adjust_room, bpf_fib_lookup, bpf_redirect_peer
    late_helpers: bool = False
    # arenas as of 6.18: pages from the smallest range that fits (range_tree.c, in v6.13), loads
    # that extend the sign
    late_arena: bool = False
    # arena pages may be had and given back by programs that cannot sleep
    arena_atomic: bool = False
    # BPF_PROG_TEST_RUN sets data_end for cgroup_skb programs (measured: not on 6.12)
    cgroup_skb_sees_data: bool = False
    # BPF_PROG_TEST_RUN of an skb puts into fragments what is beyond a page (measured: on 7.3)
    skb_fragments: bool = False


_IRQ = frozenset({"bpf_local_irq_save", "bpf_local_irq_restore"})
_RES_LOCK = frozenset({
    "bpf_res_spin_lock", "bpf_res_spin_unlock",
    "bpf_res_spin_lock_irqsave", "bpf_res_spin_unlock_irqrestore",
})  # fmt: skip
_SINCE_6_11 = frozenset({
    "bpf_preempt_disable", "bpf_preempt_enable",
    "bpf_arena_alloc_pages", "bpf_arena_free_pages",  # 6.9
    "bpf_iter_bits_new", "bpf_iter_bits_next", "bpf_iter_bits_destroy",
    "bpf_percpu_obj_new_impl", "bpf_percpu_obj_drop_impl",  # 6.7, which series-v1 is before
})  # fmt: skip
_SINCE_6_17 = frozenset({"bpf_list_front", "bpf_list_back", "bpf_arena_reserve_pages"})
# besides those with "_impl" behind it
_SHORT_NAMES = frozenset({
    "bpf_obj_new", "bpf_obj_drop", "bpf_percpu_obj_new", "bpf_percpu_obj_drop",
    "bpf_refcount_acquire", "bpf_list_push_front", "bpf_list_push_back", "bpf_rbtree_add",
})  # fmt: skip
_V6_12 = Profile(
    "6.12",
    default_returns_cookie=True,
    max_frames=8,
    frames_restart_at_global=False,
    throw_types=_SINCE_6_7,
    extra_kfuncs=_SINCE_6_11,
    static_throw_leaks=True,
    global_throw_leaks=True,
    calls_global_unpreempted=False,
)
_V6_18 = replace(
    _V6_12,
    name="6.18",
    throw_types=_SINCE_6_7 | {"sock_ops"},
    extra_kfuncs=_SINCE_6_11 | _IRQ | _RES_LOCK | _SINCE_6_17,
    late_arena=True,
    calls_global_unpreempted=True,
    csum_diff_folds=True,
    cgroup_skb_sees_data=True,
)
_V7_3 = replace(
    _V6_18,
    name="7.3",
    late_helpers=True,
    skb_fragments=True,
    arena_atomic=True,
    max_frames=16,
    frames_restart_at_global=True,
    throw_types=_SINCE_6_7 | {"sock_ops", "raw_tp"},
    extra_kfuncs=_V6_18.extra_kfuncs | _SHORT_NAMES,
    static_throw_leaks=False,
    global_throw_leaks=False,
    rcu_nests=True,
    tracing_name="Tracing",
)
PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        # the series: no static function may be called, or return, inside an RCU section
        replace(_V6_12, name="series-v1", default_returns_cookie=False, static_throw_leaks=False),
        _V6_12,
        _V6_18,
        _V7_3,
        # the newest kernel, and what the second half of the proposal adds to it
        replace(_V7_3, name="cleanup", releases_at_throw=True),
    )
}
DEFAULT_PROFILE = "6.12"


def profile(name: str) -> Profile:
    """Profile of this name. Raises UsageError listing the names there are."""
    if name not in PROFILES:
        raise UsageError(f"no profile {name!r}", fix=f"profiles: {', '.join(PROFILES)}")
    return PROFILES[name]
