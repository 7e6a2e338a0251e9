# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What differs between kernels and the proposal, as data: one frozen record per profile.

Source: the reference table of program types and limits, measured on 6.12.107, 6.18.15 and 7.3.4;
for series-v1 the cover letter and patches of 13 July 2023.
"""

from dataclasses import dataclass

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
    # kernel functions that exist besides those of 6.12
    extra_kfuncs: frozenset[str] = frozenset()
    # bpf_csum_diff() gives 16 bits: Linux kernel commit 6a4794d5a3e2 (in v6.13)
    csum_diff_folds: bool = False
    # BPF_PROG_TEST_RUN sets data_end for cgroup_skb programs (measured: not on 6.12)
    cgroup_skb_sees_data: bool = False


PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile("series-v1", False, 8, False, _SINCE_6_7),
        Profile("6.12", True, 8, False, _SINCE_6_7),
        Profile(
            "6.18",
            True,
            8,
            False,
            _SINCE_6_7 | {"sock_ops"},
            frozenset({"bpf_local_irq_save", "bpf_local_irq_restore"}),
            csum_diff_folds=True,
            cgroup_skb_sees_data=True,
        ),
        Profile(
            "7.3",
            True,
            16,
            True,
            _SINCE_6_7 | {"sock_ops", "raw_tp"},
            frozenset({"bpf_local_irq_save", "bpf_local_irq_restore"}),
            csum_diff_folds=True,
            cgroup_skb_sees_data=True,
        ),
    )
}
DEFAULT_PROFILE = "6.12"


def profile(name: str) -> Profile:
    """Profile of this name. Raises UsageError listing the names there are."""
    if name not in PROFILES:
        raise UsageError(f"no profile {name!r}", fix=f"profiles: {', '.join(PROFILES)}")
    return PROFILES[name]
