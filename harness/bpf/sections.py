# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Section names of programs and the program type each stands for: data only.

Source: section_defs[] in tools/lib/bpf/libbpf.c, the part that can hold a throwing program and
its neighbours.
"""

# first component of a section name -> program type, named as in harness.hooks
_TYPES = {
    "tc": "tc",
    "tcx": "tc",
    "classifier": "tc",
    "xdp": "xdp",
    "xdp.frags": "xdp",
    "syscall": "syscall",
    "raw_tp": "raw_tp",
    "raw_tracepoint": "raw_tp",
    "raw_tp.w": "raw_tp_writable",
    "raw_tracepoint.w": "raw_tp_writable",
    "tp": "tracepoint",
    "tracepoint": "tracepoint",
    "perf_event": "perf_event",
    "kprobe": "kprobe",
    "kretprobe": "kprobe",
    "uprobe": "kprobe",
    "uretprobe": "kprobe",
    "ksyscall": "kprobe",
    "kretsyscall": "kprobe",
    "cgroup_skb": "cgroup_skb",
    "sockops": "sock_ops",
    "socket": "socket_filter",
    "action": "sched_act",
    "netfilter": "netfilter",
    "flow_dissector": "flow_dissector",
    "sk_reuseport": "sk_reuseport",
    "sk_lookup": "sk_lookup",
    "sk_msg": "sk_msg",
    "sk_skb": "sk_skb",
    "lwt_in": "lwt_in",
    "lwt_out": "lwt_out",
    "lwt_xmit": "lwt_xmit",
    "lwt_seg6local": "lwt_seg6local",
    "fentry": "fentry",
    "fentry.s": "fentry",
    "fexit": "fexit",
    "fexit.s": "fexit",
    "fmod_ret": "fmod_ret",
    "fmod_ret.s": "fmod_ret",
    "tp_btf": "tp_btf",
    "iter": "iter",
    "iter.s": "iter",
    "lsm": "lsm",
    "lsm.s": "lsm",
    "struct_ops": "struct_ops",
    "struct_ops.s": "struct_ops",
    "freplace": "freplace",
}
# "cgroup/NAME" is a family of its own
_CGROUP = {
    "skb": "cgroup_skb",
    "sock": "cgroup_sock",
    "sock_create": "cgroup_sock",
    "sock_release": "cgroup_sock",
    "post_bind4": "cgroup_sock",
    "post_bind6": "cgroup_sock",
    "dev": "cgroup_device",
    "sysctl": "cgroup_sysctl",
    "getsockopt": "cgroup_sockopt",
    "setsockopt": "cgroup_sockopt",
}


def kind_of(section: str) -> str:
    """First component without what says how it is loaded: "fentry" of "?fentry.s/function"."""
    return section.removeprefix("?").partition("/")[0].removesuffix(".s")


def program_type(section: str) -> str:
    """Program type of a section name ("?" allowed), or "" for a name that is not known."""
    head, _, tail = section.removeprefix("?").partition("/")
    if head == "cgroup":
        return _CGROUP.get(tail, "cgroup_sock_addr" if tail else "")
    return _TYPES.get(head, "")


def attach_target(section: str) -> str:
    """What follows the first slash: the function that a tracing or freplace program names."""
    return section.partition("/")[2]
