# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a program gets in R1: __sk_buff, xdp_md, the syscall argument, tracepoint arguments.

Owns the layout of the contexts (include/uapi/linux/bpf.h) and what BPF_PROG_TEST_RUN or the live
hook puts into each field (net/bpf/test_run.c, net/core/dev.c). A field whose value depends on
the machine has no value here: reading it ends in Unsupported, never in a guess.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.hooks import HOOKS
from harness.model import Input
from harness.sim import ctxfields
from harness.sim.memory import Memory, Region
from harness.sim.packet import ETH_HEADER_BYTES, SKB_HEADROOM_BYTES, Packet
from harness.sim.semantics import Profile
from harness.sim.signals import Fault, Unsupported

XDP_HEADROOM_BYTES = 256
TAILROOM_BYTES = 320
# what is left of a page between head room and tail room: a longer frame of BPF_PROG_TEST_RUN does
# not fit (bpf_test_init() in net/bpf/test_run.c; measured on 6.12.107, 6.18.15 and 7.3.4)
MAX_XDP_BYTES = 4096 - XDP_HEADROOM_BYTES - TAILROOM_BYTES
MAX_SKB_BYTES = 4096 - SKB_HEADROOM_BYTES - TAILROOM_BYTES
_VLAN_TAG_BYTES = 4
_ADDRESSES_BYTES = 12
_VLAN_TYPES = frozenset({0x8100, 0x88A8})
_LOOPBACK = 1  # the interface that BPF_PROG_TEST_RUN lends

# field -> (offset, bytes); arrays of u32 stand as one field
_SKB = {
    "len": (0, 4), "pkt_type": (4, 4), "mark": (8, 4), "queue_mapping": (12, 4),
    "protocol": (16, 4), "vlan_present": (20, 4), "vlan_tci": (24, 4), "vlan_proto": (28, 4),
    "priority": (32, 4), "ingress_ifindex": (36, 4), "ifindex": (40, 4), "tc_index": (44, 4),
    "cb": (48, 20), "hash": (68, 4), "tc_classid": (72, 4), "data": (76, 4),
    "data_end": (80, 4), "napi_id": (84, 4), "family": (88, 4), "remote_ip4": (92, 4),
    "local_ip4": (96, 4), "remote_ip6": (100, 16), "local_ip6": (116, 16),
    "remote_port": (132, 4), "local_port": (136, 4), "data_meta": (140, 4),
    "flow_keys": (144, 8), "tstamp": (152, 8), "wire_len": (160, 4), "gso_segs": (164, 4),
    "sk": (168, 8), "gso_size": (176, 4), "tstamp_type": (180, 1), "hwtstamp": (184, 8),
}  # fmt: skip
_SKB_BYTES = 192
_XDP = {
    "data": (0, 4), "data_end": (4, 4), "data_meta": (8, 4), "ingress_ifindex": (12, 4),
    "rx_queue_index": (16, 4), "egress_ifindex": (20, 4),
}  # fmt: skip
_XDP_BYTES = 24
_LAYOUTS = {"__sk_buff": _SKB, "xdp_md": _XDP}
_POINTERS = frozenset({"data", "data_end", "data_meta"})
# bpf_skb_is_valid_access() and its callers: what a program type may not even read
_HIDDEN = {
    "tc": frozenset({"flow_keys", "family", "remote_ip4", "local_ip4", "remote_ip6", "local_ip6",
                     "remote_port", "local_port"}),
    "cgroup_skb": frozenset({"flow_keys", "tc_classid", "data_meta", "wire_len"}),
    "xdp": frozenset(),
}  # fmt: skip
# fields that can be read in parts; writes take whole fields, but for cb
_WHOLE = frozenset({"sk", "tstamp", "hwtstamp"})
_WRITABLE = {
    "tc": frozenset({"mark", "priority", "tc_index", "cb", "tc_classid", "tstamp",
                     "queue_mapping"}),
    "cgroup_skb": frozenset({"mark", "priority", "cb", "tstamp"}),
    "xdp": frozenset(),
}  # fmt: skip
# bpf_convert_ctx_access(): members of struct sk_buff that are narrower than the field
_STORED_AS_16_BITS = frozenset({"tc_index", "tc_classid"})
_NO_QUEUE = 0xFFFF  # NO_QUEUE_MAPPING: a write of it or more does nothing

MAX_TRACEPOINT_ARGS = 12


@dataclass(slots=True)
class Context:
    """R1 of one run, and what comes out of it."""

    address: int
    packet: Packet | None = None
    # of an skb or xdp_md: field -> value; None: not modelled
    fields: dict[str, int | None] = field(default_factory=dict)
    # frames come from an interface, not from BPF_PROG_TEST_RUN
    live: bool = False
    # what cgroup programs leave by bpf_set_retval()
    retval: int = 0
    # BPF_PROG_TEST_RUN of an XDP program gives back the metadata in front of the frame too
    gives_metadata: bool = False
    # a VLAN tag beside the frame goes into it on the way out (validate_xmit_vlan())
    sends: bool = False

    def data_out(self) -> bytes | None:
        """The frame as it goes on. A VLAN tag that the receive path took out stays out of it."""
        packet = self.packet
        if packet is None:
            return None
        start = packet.meta if self.gives_metadata else packet.start
        frame = packet.hidden + bytes(packet.region.data[start : packet.end])
        if not self.sends or not self.fields.get("vlan_present"):
            return frame
        kind, number = self.fields["vlan_proto"] or 0, self.fields["vlan_tci"] or 0
        tag = kind.to_bytes(2, "little") + number.to_bytes(2, "big")
        return frame[:_ADDRESSES_BYTES] + tag + frame[_ADDRESSES_BYTES:]


Builder = Callable[[Memory, Input, str], Context]


def packet_contexts() -> Iterator[tuple[str, str, dict[str, tuple[int, int]], set[str], list[str]]]:
    """Program type, struct, fields, those that may not be read, those that may be written."""
    structs = {
        "tc": ("__sk_buff", _SKB),
        "cgroup_skb": ("__sk_buff", _SKB),
        "xdp": ("xdp_md", _XDP),
    }
    for kind, (struct, layout) in structs.items():
        yield kind, struct, layout, set(_HIDDEN[kind]), sorted(_WRITABLE[kind])


def build(program_type: str, hook: str, given: Input, memory: Memory, profile: Profile) -> Context:
    """A fresh context for one run. Raises Unsupported for a type that is not modelled."""
    if program_type in ctxfields.RECORDS:
        return Context(ctxfields.build(memory, program_type, given.ctx or b"").address)
    if program_type not in _BUILDERS:
        raise Unsupported(f"running a program of type {program_type or 'unknown'} by itself")
    _check_length(len(given.packet or b""), program_type, hook, profile)
    made = _BUILDERS[program_type](memory, given, hook)
    made.live, made.sends = HOOKS[hook].live, hook.endswith("-egress")
    if made.packet is not None and program_type == "cgroup_skb":
        made.packet.closed = not profile.cgroup_skb_sees_data
    return made


def longest_frame(program_type: str, hook: str) -> int | None:
    """Bytes of the longest frame that lies in one piece; None where this machine knows no limit."""
    if program_type == "xdp":
        return MAX_XDP_BYTES
    return MAX_SKB_BYTES if program_type in _HIDDEN and hook == "test_run" else None


def _check_length(size: int, program_type: str, hook: str, profile: Profile) -> None:
    """Raise Unsupported for a frame that the kernel refuses, or that comes in fragments."""
    longest = longest_frame(program_type, hook)
    if longest is None or size <= longest:
        return
    if program_type == "xdp" or profile.skb_fragments:
        raise Unsupported(f"frame of {size} bytes: over {longest} it has fragments")
    raise Unsupported(
        f"frame of {size} bytes: BPF_PROG_TEST_RUN refuses it: on {profile.name} a {program_type} "
        f"program gets at most {longest}"
    )


def forget(given: Context, memory: Memory) -> None:
    """End a run's context and packet: pointers to them fault from now on."""
    memory.release(memory.regions[given.address >> 32])
    if given.packet is not None:
        memory.release(given.packet.region)


def _packet_of(given: Input) -> bytes:
    if given.packet is None:
        raise Unsupported("a packet program without a packet")
    if len(given.packet) < ETH_HEADER_BYTES:
        raise Unsupported(f"frame of {len(given.packet)} bytes: BPF_PROG_TEST_RUN refuses it")
    return given.packet


def _load_packet(memory: Memory, frame: bytes, headroom: int, hidden: bytes = b"") -> Packet:
    data = bytearray(headroom) + frame + bytearray(TAILROOM_BYTES)
    packet = Packet(memory.region("packet", data), headroom, headroom, headroom + len(frame))
    packet.hidden = hidden
    packet.settle()
    return packet


def _xdp(memory: Memory, given: Input, hook: str) -> Context:
    packet = _load_packet(memory, _packet_of(given), XDP_HEADROOM_BYTES)
    index = _LOOPBACK if hook == "test_run" else None
    fields = {"ingress_ifindex": index, "rx_queue_index": 0, "egress_ifindex": None}
    made = _with_fields(memory, "xdp_md", _XDP, _XDP_BYTES, fields, packet, "xdp")
    made.gives_metadata = hook == "test_run"
    return made


def _skb(memory: Memory, given: Input, hook: str) -> Context:
    frame = _packet_of(given)
    vlan = None
    if hook.endswith("-ingress") and int.from_bytes(frame[12:14], "big") in _VLAN_TYPES:
        # skb_vlan_untag() in __netif_receive_skb_core() comes before the ingress hooks
        tag = frame[12 : 12 + _VLAN_TAG_BYTES]
        vlan = (int.from_bytes(tag[:2], "big"), int.from_bytes(tag[2:], "big"))
        frame = frame[:12] + frame[12 + _VLAN_TAG_BYTES :]
    packet = _load_packet(memory, frame, SKB_HEADROOM_BYTES)
    fields = _skb_fields(frame, hook, vlan)
    return _with_fields(memory, "__sk_buff", _SKB, _SKB_BYTES, fields, packet, "tc")


def _cgroup_skb(memory: Memory, given: Input, hook: str) -> Context:
    """test_run shows the network header first, and gives back a zeroed Ethernet header."""
    frame = _packet_of(given)
    inner = frame[ETH_HEADER_BYTES:]
    packet = _load_packet(memory, inner, SKB_HEADROOM_BYTES, bytes(ETH_HEADER_BYTES))
    packet.network, packet.mac = 0, frame[:ETH_HEADER_BYTES]
    fields = _skb_fields(frame, hook, None)
    return _with_fields(memory, "__sk_buff", _SKB, _SKB_BYTES, fields, packet, "cgroup_skb")


def protocol_of(frame: bytes) -> int:
    """eth_type_trans(): EtherType in network order as a little-endian load shows it."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind < 0x600:
        kind = 0x0001 if frame[14:16] == b"\xff\xff" else 0x0004  # ETH_P_802_3, ETH_P_802_2
    return int.from_bytes(kind.to_bytes(2, "big"), "little")


def _packet_type(frame: bytes) -> int:
    """PACKET_* of a frame that arrives at an interface with an all-zero address."""
    if frame[:6] == b"\xff" * 6:
        return 1
    if frame[:1] and frame[0] & 1:
        return 2
    return 3 if any(frame[:6]) else 0


@functools.cache
def _same_fields(hook: str) -> dict[str, int | None]:
    """Fields of __sk_buff as far as they are the same for every frame; to be copied."""
    fields: dict[str, int | None] = dict.fromkeys(_SKB)
    zero = ("mark", "priority", "tc_index", "cb", "tc_classid", "vlan_present", "vlan_tci",
            "vlan_proto")  # fmt: skip
    fields |= dict.fromkeys(zero, 0)
    if hook == "test_run":
        fields |= dict.fromkeys(("queue_mapping", "hash", "tstamp", "gso_segs", "gso_size"), 0)
        fields |= {"ifindex": _LOOPBACK, "ingress_ifindex": 0, "napi_id": 0}
    if hook in ("tc-ingress", "tc-egress"):
        fields["tc_classid"] = None  # cls_bpf puts the filter's own class there
    return fields


@functools.cache
def _field_at(name: str, offset: int, width: int) -> tuple[str, int] | None:
    """Field of a context that has these bytes, and where they are in it."""
    for known, (start, size) in _LAYOUTS[name].items():
        if start <= offset and offset + width <= start + size:
            return known, offset - start
    return None


def _skb_fields(frame: bytes, hook: str, vlan: tuple[int, int] | None) -> dict[str, int | None]:
    fields = _same_fields(hook).copy()
    fields["protocol"] = protocol_of(frame)
    if hook == "test_run":
        fields["pkt_type"] = _packet_type(frame)
    if vlan is not None:
        proto = int.from_bytes(vlan[0].to_bytes(2, "big"), "little")
        fields |= {"vlan_present": 1, "vlan_tci": vlan[1], "vlan_proto": proto}
    return fields


def _with_fields(
    memory: Memory,
    name: str,
    layout: dict[str, tuple[int, int]],
    size: int,
    fields: dict[str, int | None],
    packet: Packet,
    kind: str,
) -> Context:
    region = memory.region(f"ctx ({name})", bytearray(size))
    context = Context(region.address, packet, fields)

    def find(offset: int, width: int) -> tuple[str, int]:
        found = _field_at(name, offset, width)
        if found is None:
            raise Fault(f"invalid {name} access: offset {offset}, {width} bytes")
        return found

    def load(offset: int, width: int) -> int:
        known, within = find(offset, width)
        if not _may_read(kind, known, offset, width, layout[known][1]):
            raise Fault(f"invalid {name} access: offset {offset}, {width} bytes of {known}")
        if known in _POINTERS:
            return _pointer(packet, known, name, (offset, width), layout)
        value = packet.end - packet.start if known == "len" else fields[known]
        if value is None:
            raise Unsupported(f"{name}.{known} on this hook")
        return value >> within * 8 & ((1 << width * 8) - 1)

    def store(offset: int, width: int, value: int) -> None:
        known, within = find(offset, width)
        if known not in _WRITABLE[kind]:
            raise Fault(f"{name}.{known} is read-only")
        if offset % width or (known != "cb" and width != layout[known][1]):
            raise Fault(f"invalid {name} access: offset {offset}, {width} bytes of {known}")
        if known == "queue_mapping" and value >= _NO_QUEUE:
            return
        mask = ((1 << width * 8) - 1) << within * 8
        merged = (fields[known] or 0) & ~mask | (value << within * 8) & mask
        fields[known] = merged & 0xFFFF if known in _STORED_AS_16_BITS else merged

    region.load, region.store = load, store
    return context


def _may_read(kind: str, known: str, offset: int, width: int, size: int) -> bool:
    """bpf_skb_is_valid_access() and __is_valid_xdp_access(), for a field of `size` bytes."""
    if offset % width or known in _HIDDEN[kind]:
        return False
    return width == size or not (kind == "xdp" or known in _WHOLE)


def _pointer(
    packet: Packet,
    name: str,
    kind: str,
    access: tuple[int, int],
    layout: dict[str, tuple[int, int]],
) -> int:
    if access != layout[name]:
        raise Fault(f"{kind}.{name} can only be loaded as a whole")
    if packet.closed and name == "data_end":
        return 0
    at = {"data": packet.start, "data_end": packet.end, "data_meta": packet.meta}[name]
    return packet.region.address + at


def _syscall(memory: Memory, given: Input, _hook: str) -> Context:
    return Context(memory.region("ctx", bytearray(given.ctx or b"")).address)


def _raw_tp(memory: Memory, given: Input, _hook: str) -> Context:
    given_args = given.ctx or b""
    if len(given_args) > MAX_TRACEPOINT_ARGS * 8:
        raise Unsupported(f"more than {MAX_TRACEPOINT_ARGS} tracepoint arguments")
    region = memory.region("ctx", bytearray(given_args))
    region.writable = False
    return Context(region.address)


def tracing(memory: Memory, values: list[int | None]) -> Region:
    """Context of fentry and fexit: the target's arguments, then (fexit) its result."""
    region = memory.unwritten("tracing ctx", len(values) * 8)
    for index, value in enumerate(values):
        if value is not None:
            memory.store(region.address + index * 8, 8, value)
    region.writable = False
    return region


_BUILDERS: dict[str, Builder] = {
    "xdp": _xdp,
    "tc": _skb,
    "cgroup_skb": _cgroup_skb,
    "syscall": _syscall,
    "raw_tp": _raw_tp,
}
