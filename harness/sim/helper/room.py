# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers that make or take room for headers: bpf_skb_adjust_room, bpf_skb_change_proto
(net/core/filter.c).
"""

from typing import TYPE_CHECKING

from harness.sim.alu import signed
from harness.sim.errnos import EFAULT, EINVAL, ENOMEM, ENOTSUPP
from harness.sim.helper import Table
from harness.sim.helper.packet import clear_hash, field, packet_of
from harness.sim.helper.skb import MAX_BYTES
from harness.sim.packet import Packet
from harness.sim.signals import Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

EALREADY = -114
# EtherTypes as a little-endian load shows them -> bytes of the shortest header
_IPV4, _IPV6 = 0x0008, 0xDD86
_HEADER_BYTES = {_IPV4: 20, _IPV6: 40}
_NET, _MAC = 0, 1
_MAX_MOVE = 0xFFF
_ENCAP_IPV4, _ENCAP_IPV6, _ENCAP_GRE, _ENCAP_UDP = 2, 4, 8, 16
_NO_CSUM_RESET, _ENCAP_ETH, _DECAP_IPV4, _DECAP_IPV6 = 32, 64, 128, 256
_FIXED_GSO = 1
_ENCAP_L3, _DECAP_L3 = _ENCAP_IPV4 | _ENCAP_IPV6, _DECAP_IPV4 | _DECAP_IPV6
_L2_SHIFT, _ETH_BYTES = 56, 14
_KNOWN = 0x1FF | 0xFF << _L2_SHIFT
# decapsulation of tunnels, which only later kernels know
_LATER = 0x1E00
_SHRINK_FLAGS = _DECAP_L3 | _FIXED_GSO | _NO_CSUM_RESET


def _adjust_room(machine: "Machine", context: int, delta: int, mode: int, flags: int) -> int:
    packet, move, mode = packet_of(machine, context), signed(delta, 32), mode & 0xFFFF_FFFF
    packet.renew(machine.memory, "bpf_skb_adjust_room")
    if flags & _LATER and machine.profile.late_helpers:
        raise Unsupported("bpf_skb_adjust_room that takes off a tunnel")
    if flags & ~_KNOWN:
        return EINVAL
    if abs(move) > _MAX_MOVE:
        return EFAULT
    proto = field(machine, "protocol")
    if proto not in _HEADER_BYTES or mode not in (_NET, _MAC):
        return ENOTSUPP
    shortest = _HEADER_BYTES[proto]
    at = packet.network + (shortest if mode == _NET else 0)
    if flags & _DECAP_L3:
        if move >= 0 or flags & _DECAP_L3 == _DECAP_L3:
            return EINVAL
        shortest = _HEADER_BYTES[_IPV4 if flags & _DECAP_IPV4 else _IPV6]
    left = packet.size_bytes - packet.network + move
    if (move < 0 and left < max(shortest, 1)) or packet.size_bytes + move > MAX_BYTES:
        return ENOTSUPP
    result = _shrink(machine, at, -move, flags) if move < 0 else _grow(machine, at, move, flags)
    if not result and not flags & _NO_CSUM_RESET:
        packet.csum_level = None
    return result


def _shrink(machine: "Machine", at: int, size: int, flags: int) -> int:
    packet = machine.context.packet
    assert packet is not None
    if flags & ~_SHRINK_FLAGS:
        return EINVAL
    if at + size > packet.size_bytes:
        return ENOMEM
    _cut(machine, packet, at, size)
    if flags & _DECAP_L3:
        machine.context.fields["protocol"] = _IPV4 if flags & _DECAP_IPV4 else _IPV6
    return 0


def _cut(machine: "Machine", packet: Packet, at: int, size: int) -> None:
    """bpf_skb_net_hdr_pop()."""
    frame, network = packet.frame(), packet.network
    packet.replace(machine.memory, frame[:at] + frame[at + size :])
    packet.pull(size)
    packet.network = network


def _insert(machine: "Machine", packet: Packet, at: int, size: int) -> None:
    """bpf_skb_net_hdr_push()."""
    frame, network = packet.frame(), packet.network
    packet.replace(machine.memory, frame[:at] + bytes(size) + frame[at:])
    packet.grow(size)
    packet.network = network


def _grow(machine: "Machine", at: int, size: int, flags: int) -> int:
    packet = machine.context.packet
    assert packet is not None
    encapsulates = flags & _ENCAP_L3
    if encapsulates:
        problem = _refusal(packet, size, flags)
        if problem:
            return problem
    _insert(machine, packet, at, size)
    if encapsulates:
        packet.encapsulated = True
        if flags & (_ENCAP_GRE | _ENCAP_UDP):
            header = _HEADER_BYTES[_IPV6 if flags & _ENCAP_IPV6 else _IPV4]
            packet.transport = packet.network + header
        machine.context.fields["protocol"] = _IPV6 if flags & _ENCAP_IPV6 else _IPV4
    return 0


def _refusal(packet: Packet, size: int, flags: int) -> int:
    inner = flags >> _L2_SHIFT
    if encapsulates_twice(flags) or (flags & _ENCAP_ETH and inner < _ETH_BYTES):
        return EINVAL
    if packet.encapsulated:
        return EALREADY
    return EINVAL if inner > size else 0


def encapsulates_twice(flags: int) -> bool:
    """Whether two kinds of outer header are asked for."""
    return flags & _ENCAP_L3 == _ENCAP_L3 or (flags & _ENCAP_GRE and flags & _ENCAP_UDP) != 0


def _change_proto(machine: "Machine", context: int, proto: int, flags: int) -> int:
    packet = packet_of(machine, context)
    packet.renew(machine.memory, "bpf_skb_change_proto")
    if flags:
        return EINVAL
    way = (field(machine, "protocol"), proto & 0xFFFF)
    grown = _HEADER_BYTES[_IPV6] - _HEADER_BYTES[_IPV4]
    if way == (_IPV4, _IPV6):
        _insert(machine, packet, packet.network, grown)
    elif way != (_IPV6, _IPV4):
        return ENOTSUPP
    elif packet.network + grown > packet.size_bytes:
        return ENOMEM
    else:
        _cut(machine, packet, packet.network, grown)
    machine.context.fields["protocol"] = way[1]
    clear_hash(machine, packet)
    return 0


HELPERS: Table = {
    31: ("bpf_skb_change_proto", 3, _change_proto, ""),
    50: ("bpf_skb_adjust_room", 4, _adjust_room, "taking off GRE, UDP and IPIP: unsupported"),
}
