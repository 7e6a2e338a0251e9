# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a program may read and write in its context, and what kind of register a load gives.

Owns the rules of the *_is_valid_access() functions of Linux 6.12.107 and 7.3 (net/core/filter.c,
kernel/bpf/cgroup.c, kernel/bpf/syscall.c, kernel/trace/bpf_trace.c, include/linux/bpf.h): they are
the same in both. What the pointer itself may look like is the caller's (REWRITTEN helps). What the
simulator puts into fields is harness.sim.context's; the two tables share no line, so that a test
can hold one against the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.verify.prediction import NotModelled

# results of a load
SCALAR = "scalar"
PACKET, PACKET_END, PACKET_META = "pkt", "pkt_end", "pkt_meta"
SOCKET, SOCKET_OR_NULL, SOCK_COMMON_OR_NULL = "sock", "sock_or_null", "sock_common_or_null"
FLOW_KEYS, TP_BUFFER = "flow_keys", "tp_buffer"
# a trusted pointer to a struct of the kernel: "btf:NAME"
BTF = "btf:"

_NARROW = frozenset({1, 2, 4})
_FOUR, _EIGHT, _ONE, _TWO = frozenset({4}), frozenset({8}), frozenset({1}), frozenset({1, 2})
_ALL = frozenset({1, 2, 4, 8})
_NONE: frozenset[int] = frozenset()
# program types whose context accesses the kernel rewrites: the pointer must not have been moved
REWRITTEN = frozenset({
    "tc", "sched_act", "xdp", "socket_filter", "cgroup_skb", "lwt_in", "lwt_out", "lwt_xmit",
    "cgroup_sock", "cgroup_sock_addr", "sock_ops", "sk_skb", "sk_msg", "flow_dissector",
    "sk_reuseport", "sk_lookup", "cgroup_sysctl", "cgroup_sockopt", "perf_event",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """Bytes [start, end) of a context."""

    start: int
    end: int
    # widths in bytes of accesses that may begin anywhere in it, aligned to themselves
    read: frozenset[int] = _FOUR
    write: frozenset[int] = _NONE
    gives: str = SCALAR
    # only the first byte counts as its place
    exact: bool = False
    # an access of 8 bytes may begin here where all of it lies inside
    wide: bool = False
    # an access may not leave it, whatever its width
    closed: bool = False
    # attach types (second half of a section's name) that have it; empty: all
    only: frozenset[str] = frozenset()
    # attach types that may write it; empty: as `only`
    writers: frozenset[str] = frozenset()


def _only(*names: str) -> frozenset[str]:
    return frozenset(names)


_CB = Field(48, 68, _ALL, _ALL, closed=True)
# struct __sk_buff, as bpf_skb_is_valid_access() has it; those of one program type follow
_SKB_READ = (
    Field(0, 48, _NARROW), Field(68, 72, _NARROW), Field(84, 92, _NARROW), Field(132, 140, _NARROW),
    Field(92, 132), Field(164, 168, _NARROW), Field(176, 180, _NARROW),
    Field(168, 176, _EIGHT, gives=SOCK_COMMON_OR_NULL),
)  # fmt: skip
_DATA = Field(76, 80, gives=PACKET)
_DATA_END = Field(80, 84, gives=PACKET_END)
_DATA_META = Field(140, 144, gives=PACKET_META)
_HWTSTAMP = Field(184, 192, _EIGHT)
_WIRE_LEN = Field(160, 164, _NARROW)


def _written(*starts: int) -> tuple[Field, ...]:
    """Words of __sk_buff that may be written as a whole."""
    return tuple(Field(start, start + 4, _NARROW, _FOUR) for start in starts)


_MARK, _QUEUE, _PRIORITY, _TC_INDEX = 8, 12, 32, 44
_FAMILY_TO_LOCAL_PORT = (88, 140)


def _without(fields: tuple[Field, ...], start: int, end: int) -> tuple[Field, ...]:
    """The fields but for bytes [start, end)."""
    kept = []
    for each in fields:
        for low, high in ((each.start, min(each.end, start)), (max(each.start, end), each.end)):
            if low < high:
                kept.append(Field(low, high, each.read, each.write, each.gives))
    return tuple(kept)


_SKB_WITHOUT_SOCKET = _without(_SKB_READ, *_FAMILY_TO_LOCAL_PORT)
_TC = (
    *_written(_MARK, _QUEUE, _PRIORITY, _TC_INDEX, 72), _CB,
    Field(152, 160, _EIGHT, _EIGHT), Field(180, 181, _ONE), _DATA, _DATA_END, _DATA_META,
    _HWTSTAMP, _WIRE_LEN, *_SKB_WITHOUT_SOCKET,
)  # fmt: skip
_LWT = (*_written(_MARK, _PRIORITY), _CB, _DATA, _DATA_END, *_SKB_WITHOUT_SOCKET)
_XDP = (
    Field(0, 4, gives=PACKET), Field(4, 8, gives=PACKET_END), Field(8, 12, gives=PACKET_META),
    Field(12, 20), Field(20, 24, only=_only("devmap")),
)  # fmt: skip
_V4 = _only("bind4", "connect4", "getpeername4", "getsockname4", "sendmsg4", "recvmsg4")
_V6 = _only("bind6", "connect6", "getpeername6", "getsockname6", "sendmsg6", "recvmsg6")
_SOCK_ADDR = (
    Field(0, 4), Field(28, 40),
    Field(4, 8, _NARROW, _FOUR, only=_V4),
    Field(8, 24, _NARROW, _FOUR, wide=True, only=_V6),
    Field(24, 28, _NARROW, _FOUR),
    Field(40, 44, _NARROW, _FOUR, only=_only("sendmsg4")),
    Field(44, 60, _NARROW, _FOUR, wide=True, only=_only("sendmsg6")),
    Field(64, 72, _EIGHT, gives=SOCKET),
)  # fmt: skip
_SOCK_OPS = (
    Field(4, 8, _FOUR, _FOUR), Field(164, 168, _FOUR, _FOUR), Field(168, 184, _EIGHT),
    Field(184, 192, _EIGHT, gives=SOCKET_OR_NULL), Field(192, 200, _EIGHT, gives=PACKET),
    Field(200, 208, _EIGHT, gives=PACKET_END), Field(212, 213, _NARROW, exact=True),
    Field(216, 224, _EIGHT), Field(0, 224),
)  # fmt: skip
_LIFE = _only("sock", "sock_create", "sock_release")
_POST4, _POST6 = _only("post_bind4"), _only("post_bind6")
_SOCK = (
    Field(0, 4, _FOUR, _FOUR, only=_LIFE), Field(16, 24, _FOUR, _FOUR, only=_LIFE),
    Field(4, 16, _NARROW, exact=True), Field(24, 28, _NARROW, only=_POST4),
    Field(28, 44, _NARROW, only=_POST6), Field(44, 48, _NARROW, exact=True, only=_POST4 | _POST6),
    Field(48, 50, _NARROW), Field(52, 72, _NARROW), Field(72, 80, _NARROW, exact=True),
)  # fmt: skip
_GET, _SET = _only("getsockopt"), _only("setsockopt")
_SOCKOPT = (
    Field(0, 8, _EIGHT, gives=SOCKET), Field(8, 16, _EIGHT, gives=PACKET),
    Field(16, 24, _EIGHT, gives=PACKET_END), Field(24, 32, _FOUR, _FOUR, writers=_SET),
    Field(32, 36, _FOUR, _FOUR), Field(36, 40, _FOUR, _FOUR, only=_GET),
)  # fmt: skip
_SK_MSG = (
    Field(0, 8, _EIGHT, gives=PACKET), Field(8, 16, _EIGHT, gives=PACKET_END), Field(16, 72),
    Field(72, 80, _EIGHT, gives=SOCKET),
)  # fmt: skip
_SK_LOOKUP = (
    Field(0, 8, _EIGHT, gives=SOCKET_OR_NULL), Field(8, 36, _NARROW),
    Field(36, 38, _NARROW), Field(38, 40, _TWO), Field(40, 68, _NARROW),
)  # fmt: skip
_FLOW_DISSECTOR = (_DATA, _DATA_END, Field(144, 152, _EIGHT, gives=FLOW_KEYS))
_PT_REGS_BYTES = 168  # x86-64
_PERF_EVENT = (
    Field(0, _PT_REGS_BYTES, _EIGHT), Field(_PT_REGS_BYTES, _PT_REGS_BYTES + 16, _ALL),
)  # fmt: skip

# program type -> fields; the first that has an access's first byte counts
_FIELDS: dict[str, tuple[Field, ...]] = {
    "tc": _TC,
    "sched_act": _TC,
    "cgroup_skb": (
        *_written(_MARK, _PRIORITY), _CB, Field(152, 160, _EIGHT, _EIGHT), _DATA, _DATA_END,
        _HWTSTAMP, *_SKB_READ,
    ),
    "socket_filter": (_CB, *_SKB_WITHOUT_SOCKET),
    "lwt_in": _LWT,
    "lwt_out": _LWT,
    "lwt_xmit": _LWT,
    "sk_skb": (
        *_written(_TC_INDEX, _PRIORITY), Field(48, 68, _ALL, closed=True), _DATA, _DATA_END,
        *_without(_SKB_READ, _MARK, _MARK + 4),
    ),
    "flow_dissector": _FLOW_DISSECTOR,
    "xdp": _XDP,
    "cgroup_sock_addr": _SOCK_ADDR,
    "sock_ops": _SOCK_OPS,
    "cgroup_sock": _SOCK,
    "cgroup_sockopt": _SOCKOPT,
    "cgroup_sysctl": (Field(0, 4, _NARROW), Field(4, 8, _NARROW, _FOUR)),
    "cgroup_device": (Field(0, 4, _NARROW), Field(4, 12)),
    "sk_msg": _SK_MSG,
    "sk_lookup": _SK_LOOKUP,
    "perf_event": _PERF_EVENT,
    "netfilter": (
        Field(0, 8, _EIGHT, gives=f"{BTF}nf_hook_state"),
        Field(8, 16, _EIGHT, gives=f"{BTF}sk_buff"),
    ),
}  # fmt: skip
_MAX_TRACEPOINT_BYTES = 8192
_MAX_ARGUMENT_BYTES = 12 * 8
_MAX_SYSCALL_BYTES = 0xFFFF

# functions of the kernel that programs are attached to: their arguments ("scalar": whatever is a
# number to the verifier), and whether they return an int. Source: net/bpf/test_run.c,
# include/linux/lsm_hook_defs.h, include/trace/events/sched.h; the same in 6.12 and 7.3
_FUNCTIONS: dict[str, tuple[tuple[str, ...], bool]] = {
    "bpf_fentry_test1": ((SCALAR,), True),
    "bpf_fentry_test2": ((SCALAR,) * 2, True),
    "bpf_fentry_test3": ((SCALAR,) * 3, True),
    "bpf_fentry_test4": ((SCALAR,) * 4, True),
    "bpf_fentry_test5": ((SCALAR,) * 5, True),
    "bpf_fentry_test6": ((SCALAR,) * 6, True),
    "bpf_modify_return_test": ((SCALAR,) * 2, True),
    "file_open": ((f"{BTF}file",), True),
    "sched_switch": ((SCALAR, f"{BTF}task_struct", f"{BTF}task_struct", SCALAR), False),
}
_BY_PROTOTYPE = frozenset({"fentry", "fexit", "fmod_ret", "lsm", "tp_btf"})
# attach types that see the function's result behind its arguments
_SEES_RESULT = frozenset({"fexit", "fmod_ret", "lsm"})


def access(
    kind: str,
    attach: str,
    offset: int,
    size: int,
    *,
    write: bool,
    signed: bool = False,
    release: tuple[int, int] = (7, 3),
) -> str | None:
    """What a load gives, SCALAR for a store; None: "invalid bpf_context access off=O size=S".

    kind as harness.bpf.sections.program_type has it, attach as attach_target. `signed`: a load
    that extends the sign. Raises NotModelled for a type that is not here.
    """
    if kind in _BY_PROTOTYPE:
        return _argument(kind, attach, offset, size, write=write)
    if kind in _FIELDS:
        return _field(kind, attach, offset, size, write=write, signed=signed)
    if kind == "syscall":
        aligned = release >= (7, 0) or not offset % size
        return SCALAR if 0 <= offset < _MAX_SYSCALL_BYTES and aligned else None
    if kind == "kprobe":
        return _registers(offset, size, write=write, release=release)
    if kind not in ("tracepoint", "raw_tp", "raw_tp_writable"):
        raise NotModelled(f"the context of a program of type {kind or '?'}")
    if write or offset % size:
        return None
    if kind == "tracepoint":
        return SCALAR if 8 <= offset < _MAX_TRACEPOINT_BYTES else None
    if kind == "raw_tp_writable" and not offset:
        return TP_BUFFER if size == 8 else None
    return SCALAR if 0 <= offset < _MAX_ARGUMENT_BYTES else None


def _field(
    kind: str, attach: str, offset: int, size: int, *, write: bool, signed: bool
) -> str | None:
    found = next((f for f in _FIELDS[kind] if f.start <= offset < f.end), None)
    if found is None or offset % size or (found.exact and offset % 4):
        return None
    widths = found.write if write else found.read
    inside = offset + size <= found.end
    if size not in widths and not (found.wide and size == 8 and inside):
        return None
    if found.closed and not inside:
        return None
    who = (found.writers or found.only) if write else found.only
    if who and attach not in who:
        if kind != "xdp" and not attach:
            raise NotModelled(f"the context of a {kind} program of unknown attach type")
        return None
    if signed and found.gives in (PACKET, PACKET_END, PACKET_META) and size == 4:
        return None
    return found.gives


def _registers(offset: int, size: int, *, write: bool, release: tuple[int, int]) -> str | None:
    """Those of x86-64; uprobes may write them since 6.18 (Linux kernel commit 7384893d970e)."""
    if offset < 0 or offset % size or offset + size > _PT_REGS_BYTES:
        return None
    if write and release < (6, 18):
        return None
    if write and release < (7, 0):
        raise NotModelled("a kprobe program that writes registers")
    return SCALAR


def _argument(kind: str, attach: str, offset: int, size: int, *, write: bool) -> str | None:
    if write or not 0 <= offset < _MAX_ARGUMENT_BYTES or offset % size:
        return None
    known = _FUNCTIONS.get(attach)
    if known is None:
        raise NotModelled(f"the arguments of {attach or 'the function it is attached to'}")
    if offset % 8:
        return None
    args, returns = known
    index = offset // 8
    if index < len(args):
        given = args[index]
        return given if given == SCALAR or size == 8 else None
    if index == len(args) and kind in _SEES_RESULT and returns:
        if kind == "lsm":
            raise NotModelled("the range of what an LSM hook returned")
        return SCALAR
    return None
