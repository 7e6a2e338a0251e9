# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers of tc and other socket buffer programs on their frame (net/core/filter.c, skbuff.c).

All data of a frame is linear here, as of every short one in BPF_PROG_TEST_RUN.
"""

from typing import TYPE_CHECKING

from harness.sim.alu import M32
from harness.sim.errnos import EFAULT, EINVAL, ENOMEM, ENOTSUPP
from harness.sim.helper import Table
from harness.sim.helper.packet import (
    clear_hash,
    field,
    packet_of,
    read_packet,
    store_bytes,
)
from harness.sim.packet import ETH_HEADER_BYTES, Packet
from harness.sim.signals import Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

# SKB_MAX_ALLOC on x86-64: four pages less struct skb_shared_info
MAX_BYTES = (4096 << 2) - 320
_OTHERHOST = 3
# no header that a live hook knows of ends behind this
_SURE_BYTES = 128
_MAX_OFFSET_RELATIVE = 0xFFFF
_FROM_MAC, _FROM_NETWORK = 0, 1
_VLAN_BYTES, _VLAN_ETH_BYTES, _ADDRESSES_BYTES = 4, 18, 12
# EtherTypes of VLAN tags as a little-endian load shows them
_8021Q, _8021AD = 0x0081, 0xA888
_VLANS = frozenset({_8021Q, _8021AD})


def _load(machine: "Machine", context: int, offset: int, target: int, size: int) -> int:
    data = read_packet(machine, context, offset, size)
    if isinstance(data, int):
        machine.memory.clear(target, size)
        return data
    machine.memory.write(target, data)
    return 0


def _load_relative(
    machine: "Machine", context: int, offset: int, target: int, size: int, header: int
) -> int:
    packet, offset, header = packet_of(machine, context), offset & M32, header & M32
    base = {_FROM_MAC: -len(packet.mac), _FROM_NETWORK: packet.network}.get(header)
    if offset > _MAX_OFFSET_RELATIVE or base is None:
        machine.memory.clear(target, size)
        return EFAULT
    whole = packet.mac + packet.frame()
    start = len(packet.mac) + base + offset
    if start + size > len(whole):
        machine.memory.clear(target, size)
        return EFAULT
    machine.memory.write(target, whole[start : start + size])
    return 0


def _store(
    machine: "Machine", context: int, offset: int, source: int, size: int, flags: int
) -> int:
    return store_bytes(machine, context, offset, machine.memory.read(source, size), flags)


def _pull(machine: "Machine", context: int, size: int) -> int:
    packet = packet_of(machine, context)
    packet.renew(machine.memory, "bpf_skb_pull_data")
    return ENOMEM if size & M32 > packet.size_bytes else 0


def _change_tail(machine: "Machine", context: int, size: int, flags: int) -> int:
    packet, size = packet_of(machine, context), size & M32
    packet.renew(machine.memory, "bpf_skb_change_tail")
    if machine.context.live and size < min(packet.size_bytes, _SURE_BYTES):
        raise Unsupported(f"cutting a frame on a live hook to less than {_SURE_BYTES} bytes")
    if flags or size > MAX_BYTES or size < packet.shortest:
        return EINVAL
    if packet.encapsulated:
        return ENOTSUPP
    packet.replace(machine.memory, packet.frame()[:size].ljust(size, b"\0"))
    return 0


def _change_head(machine: "Machine", context: int, room: int, flags: int) -> int:
    packet, room = packet_of(machine, context), room & M32
    packet.renew(machine.memory, "bpf_skb_change_head")
    if flags or room >> 31 or packet.size_bytes + room > MAX_BYTES:
        return EINVAL
    packet.replace(machine.memory, bytes(room) + packet.frame())
    packet.grow(room)
    return 0


def _change_type(machine: "Machine", context: int, kind: int) -> int:
    packet_of(machine, context)
    if field(machine, "pkt_type") > _OTHERHOST or kind & M32 > _OTHERHOST:
        return EINVAL
    machine.context.fields["pkt_type"] = kind & M32
    return 0


def _vlan_push(machine: "Machine", context: int, proto: int, tci: int) -> int:
    """The tag goes beside the frame; one that is there already goes into the frame."""
    packet, fields = packet_of(machine, context), machine.context.fields
    packet.renew(machine.memory, "bpf_skb_vlan_push")
    proto = proto & 0xFFFF if proto & 0xFFFF in _VLANS else _8021Q
    if field(machine, "vlan_present"):
        frame, outer = packet.frame(), field(machine, "vlan_proto")
        tag = outer.to_bytes(2, "little") + field(machine, "vlan_tci").to_bytes(2, "big")
        packet.replace(machine.memory, frame[:_ADDRESSES_BYTES] + tag + frame[_ADDRESSES_BYTES:])
        packet.grow(_VLAN_BYTES)
        packet.network -= _VLAN_BYTES
        fields["protocol"] = outer
    fields |= {"vlan_present": 1, "vlan_proto": proto, "vlan_tci": tci & 0xFFFF}
    return 0


def _vlan_pop(machine: "Machine", context: int) -> int:
    packet, fields = packet_of(machine, context), machine.context.fields
    packet.renew(machine.memory, "bpf_skb_vlan_pop")
    if field(machine, "vlan_present"):
        fields |= {"vlan_present": 0, "vlan_proto": 0, "vlan_tci": 0}
    elif field(machine, "protocol") not in _VLANS:
        return 0
    elif _take_tag(machine, packet) is None:
        return ENOMEM
    proto = field(machine, "protocol")
    if proto not in _VLANS:
        return 0
    tci = _take_tag(machine, packet)
    if tci is None:
        return ENOMEM
    fields |= {"vlan_present": 1, "vlan_proto": proto, "vlan_tci": tci}
    return 0


def _take_tag(machine: "Machine", packet: Packet) -> int | None:
    """__skb_vlan_pop(): the tag's number, or None where the frame is too short."""
    frame = packet.frame()
    if len(frame) < _VLAN_ETH_BYTES:
        return None
    packet.replace(
        machine.memory, frame[:_ADDRESSES_BYTES] + frame[_ADDRESSES_BYTES + _VLAN_BYTES :]
    )
    packet.pull(_VLAN_BYTES)
    packet.network = max(packet.network, ETH_HEADER_BYTES)
    inner = int.from_bytes(frame[16:18], "big")
    if inner < 0x0600:
        raise Unsupported("a VLAN tag around a frame with a length in place of its type")
    machine.context.fields["protocol"] = int.from_bytes(frame[16:18], "little")
    return int.from_bytes(frame[14:16], "big")


def _set_hash(machine: "Machine", context: int, value: int) -> int:
    packet = packet_of(machine, context)
    machine.context.fields["hash"], packet.hash_known = value & M32, True
    return 0


def _set_hash_invalid(machine: "Machine", context: int) -> int:
    clear_hash(machine, packet_of(machine, context))
    return 0


def _hash_recalc(machine: "Machine", context: int) -> int:
    if not packet_of(machine, context).hash_known:
        raise Unsupported("a packet's hash: its key is a secret of each kernel")
    return field(machine, "hash")


HELPERS: Table = {
    9: ("bpf_skb_store_bytes", 5, _store, ""),
    18: ("bpf_skb_vlan_push", 3, _vlan_push, ""),
    19: ("bpf_skb_vlan_pop", 1, _vlan_pop, ""),
    26: ("bpf_skb_load_bytes", 4, _load, ""),
    32: ("bpf_skb_change_type", 2, _change_type, ""),
    34: ("bpf_get_hash_recalc", 1, _hash_recalc, "only after bpf_set_hash"),
    38: ("bpf_skb_change_tail", 3, _change_tail, ""),
    39: ("bpf_skb_pull_data", 2, _pull, "all data is linear"),
    41: ("bpf_set_hash_invalid", 1, _set_hash_invalid, ""),
    43: ("bpf_skb_change_head", 3, _change_head, ""),
    48: ("bpf_set_hash", 2, _set_hash, ""),
    68: ("bpf_skb_load_bytes_relative", 5, _load_relative, ""),
}
