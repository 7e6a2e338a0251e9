# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Names of return values by program type, and which of them let a frame go on: data.

Source: enum xdp_action in include/uapi/linux/bpf.h, TC_ACT_* in include/uapi/linux/pkt_cls.h,
__cgroup_bpf_run_filter_skb() in kernel/bpf/cgroup.c. What a value means on a live hook is
harness.hooks' table.
"""

_XDP = {0: "XDP_ABORTED", 1: "XDP_DROP", 2: "XDP_PASS", 3: "XDP_TX", 4: "XDP_REDIRECT"}
_TC = {
    0xFFFF_FFFF: "TC_ACT_UNSPEC",
    0: "TC_ACT_OK",
    1: "TC_ACT_RECLASSIFY",
    2: "TC_ACT_SHOT",
    3: "TC_ACT_PIPE",
    4: "TC_ACT_STOLEN",
    5: "TC_ACT_QUEUED",
    6: "TC_ACT_REPEAT",
    7: "TC_ACT_REDIRECT",
    8: "TC_ACT_TRAP",
}
_CGROUP = {0: "drop", 1: "pass"}
_NAMES: dict[str, dict[int, str]] = {"xdp": _XDP, "tc": _TC, "cgroup_skb": _CGROUP}

# a frame goes on (up, out, or out of another interface); all others are consumed
_KEEPS: dict[str, frozenset[int]] = {
    "xdp": frozenset({2, 3, 4}),
    "cgroup_skb": frozenset({1}),
}
_TC_CONSUMES = frozenset({2, 4, 5, 8})


def name(program_type: str, retval: int) -> str:
    """Name of a 32-bit return value: XDP_PASS, TC_ACT_SHOT; a number where it has none."""
    return _NAMES.get(program_type, {}).get(retval) or str(retval)


def keeps_frame(program_type: str, retval: int) -> bool:
    """Whether the frame goes on. Unknown values: XDP aborts, tc asks the next filter."""
    if program_type == "tc":
        return retval not in _TC_CONSUMES
    return retval in _KEEPS.get(program_type, frozenset())
