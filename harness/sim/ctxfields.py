# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Contexts that are plain records: who may read and write which field, and how wide.

Owns the tables of struct bpf_sock_ops, bpf_sock_addr, bpf_sock, bpf_sockopt, bpf_sysctl and
bpf_cgroup_dev_ctx (include/uapi/linux/bpf.h) with the rules of sock_ops_is_valid_access(),
sock_addr_is_valid_access(), bpf_sock_is_valid_access() (net/core/filter.c) and
cg_sockopt_, sysctl_, cgroup_dev_is_valid_access() (kernel/bpf/cgroup.c). Which fields an attach
type leaves out is not checked. No kernel runs these types in BPF_PROG_TEST_RUN: the values are
the given bytes of the struct, zero behind their end.
"""

from dataclasses import dataclass

from harness.sim.memory import Memory, Region
from harness.sim.signals import Fault, Unsupported


@dataclass(frozen=True, slots=True)
class Field:
    """One field, or an array of such fields side by side."""

    offset: int
    # of the whole array
    size_bytes: int
    # of one access that takes a whole field
    width: int = 4
    writable: bool = False
    # an aligned part of a field may be read
    narrow: bool = False
    # two fields that lie together on a multiple of 8 bytes may be read and written at once
    wide: bool = False


def _words(names: str, offset: int, *, narrow: bool = False) -> dict[str, Field]:
    """Read-only fields of 4 bytes, one behind the other."""
    return {
        name: Field(offset + 4 * index, 4, narrow=narrow)
        for index, name in enumerate(names.split())
    }


_SOCK_OPS = {
    "op": Field(0, 4),
    "reply": Field(4, 4, writable=True),
    "args": Field(8, 12),
    **_words("family remote_ip4 local_ip4", 20),
    "remote_ip6": Field(32, 16),
    "local_ip6": Field(48, 16),
    **_words("remote_port local_port is_fullsock snd_cwnd srtt_us bpf_sock_ops_cb_flags", 64),
    **_words("state rtt_min snd_ssthresh rcv_nxt snd_nxt snd_una mss_cache ecn_flags", 88),
    **_words("rate_delivered rate_interval_us packets_out retrans_out total_retrans", 120),
    **_words("segs_in data_segs_in segs_out data_segs_out lost_out sacked_out", 140),
    "sk_txhash": Field(164, 4, writable=True),
    "bytes_received": Field(168, 8, 8),
    "bytes_acked": Field(176, 8, 8),
    "sk": Field(184, 8, 8),
    "skb_data": Field(192, 8, 8),
    "skb_data_end": Field(200, 8, 8),
    **_words("skb_len skb_tcp_flags", 208, narrow=False),
    "skb_hwtstamp": Field(216, 8, 8),
}
_SOCK_ADDR = {
    "user_family": Field(0, 4),
    "user_ip4": Field(4, 4, writable=True, narrow=True),
    "user_ip6": Field(8, 16, writable=True, narrow=True, wide=True),
    "user_port": Field(24, 4, writable=True, narrow=True),
    **_words("family type protocol", 28),
    "msg_src_ip4": Field(40, 4, writable=True, narrow=True),
    "msg_src_ip6": Field(44, 16, writable=True, narrow=True, wide=True),
    "sk": Field(64, 8, 8),
}
_SOCK = {
    "bound_dev_if": Field(0, 4, writable=True, narrow=True),
    **_words("family type protocol", 4, narrow=True),
    "mark": Field(16, 4, writable=True, narrow=True),
    "priority": Field(20, 4, writable=True, narrow=True),
    "src_ip4": Field(24, 4, narrow=True),
    "src_ip6": Field(28, 16, narrow=True),
    "src_port": Field(44, 4),
    "dst_port": Field(48, 2, 2, narrow=True),
    "dst_ip4": Field(52, 4, narrow=True),
    "dst_ip6": Field(56, 16, narrow=True),
    "state": Field(72, 4, narrow=True),
    "rx_queue_mapping": Field(76, 4, narrow=True),
}
_SOCKOPT = {
    "sk": Field(0, 8, 8),
    "optval": Field(8, 8, 8),
    "optval_end": Field(16, 8, 8),
    "level": Field(24, 4, writable=True),
    "optname": Field(28, 4, writable=True),
    "optlen": Field(32, 4, writable=True),
    "retval": Field(36, 4, writable=True),
}
_SYSCTL = {"write": Field(0, 4, narrow=True), "file_pos": Field(4, 4, writable=True, narrow=True)}
_DEVICE = {"access_type": Field(0, 4, narrow=True), "major": Field(4, 4), "minor": Field(8, 4)}

# program type -> struct, its size, its fields
RECORDS: dict[str, tuple[str, int, dict[str, Field]]] = {
    "sock_ops": ("bpf_sock_ops", 224, _SOCK_OPS),
    "cgroup_sock_addr": ("bpf_sock_addr", 72, _SOCK_ADDR),
    "cgroup_sock": ("bpf_sock", 80, _SOCK),
    "cgroup_sockopt": ("bpf_sockopt", 40, _SOCKOPT),
    "cgroup_sysctl": ("bpf_sysctl", 8, _SYSCTL),
    "cgroup_device": ("bpf_cgroup_dev_ctx", 12, _DEVICE),
}


def refusal(fields: dict[str, Field], offset: int, width: int, *, write: bool) -> str:
    """Why an access is invalid; "" where it is not."""
    name = next((n for n, f in fields.items() if 0 <= offset - f.offset < f.size_bytes), None)
    if name is None or offset % width:
        return "no field is there" if name is None else "it is not aligned"
    found = fields[name]
    if write and not found.writable:
        return f"{name} is read-only"
    inside = offset + width <= found.offset + found.size_bytes
    if found.wide and width == 2 * found.width and inside:
        return ""
    if width > found.width or (width < found.width and (write or not found.narrow)):
        return f"{name} has {found.width} bytes"
    return ""


def build(memory: Memory, program_type: str, given: bytes) -> Region:
    """The context of a program of a type in RECORDS; `given` are the struct's first bytes.

    Bytes behind a struct bpf_sockopt are the option's value.
    """
    struct, size, fields = RECORDS[program_type]
    region = memory.region(f"ctx ({struct})", bytearray(given[:size].ljust(size, b"\0")))
    data = region.data
    if program_type == "cgroup_sockopt":
        value = memory.region("option value", bytearray(given[size:]))
        data[8:16] = value.address.to_bytes(8, "little")
        data[16:24] = (value.address + len(value.data)).to_bytes(8, "little")

    def check(offset: int, width: int, *, write: bool) -> None:
        why = refusal(fields, offset, width, write=write)
        if why:
            raise Fault(f"invalid {struct} access: offset {offset}, {width} bytes: {why}")

    def load(offset: int, width: int) -> int:
        check(offset, width, write=False)
        if "sk" in fields and offset == fields["sk"].offset:
            raise Unsupported(f"{struct}.sk: there is no socket")
        return int.from_bytes(data[offset : offset + width], "little")

    def store(offset: int, width: int, value: int) -> None:
        check(offset, width, write=True)
        data[offset : offset + width] = (value & ((1 << width * 8) - 1)).to_bytes(width, "little")

    region.load, region.store = load, store
    return region
