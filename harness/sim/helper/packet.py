# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What helpers on packets share: finding the packet, reading and writing bytes of it."""

from typing import TYPE_CHECKING

from harness.sim.alu import M32
from harness.sim.errnos import EFAULT, EINVAL
from harness.sim.packet import Packet
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_MAX_OFFSET = 0x7FFF_FFFF
_STORE_FLAGS = 3  # BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH
_INVALIDATE_HASH = 2


def packet_of(machine: "Machine", context: int) -> Packet:
    """The packet behind R1. Raises Fault when that is not the context of a packet program."""
    packet = machine.context.packet
    if packet is None or context != machine.context.address:
        raise Fault(f"R1 is {machine.trace.show(context)}, not the context of a packet program")
    return packet


def field(machine: "Machine", name: str) -> int:
    """A field of __sk_buff. Raises Unsupported where it depends on the machine."""
    found = machine.context.fields.get(name)
    if found is None:
        raise Unsupported(f"__sk_buff.{name} on this hook")
    return found


def read_packet(machine: "Machine", context: int, offset: int, size: int) -> bytes | int:
    """Bytes, or the error number of bpf_skb_load_bytes() and bpf_xdp_load_bytes()."""
    packet, offset = packet_of(machine, context), offset & M32
    xdp = machine.program_type == "xdp"
    if xdp and (offset > 0xFFFF or size > 0xFFFF):
        return EFAULT
    if offset > _MAX_OFFSET or offset + size > packet.size_bytes:
        return EINVAL if xdp else EFAULT
    at = packet.start + offset
    return bytes(packet.region.data[at : at + size])


def store_bytes(machine: "Machine", context: int, offset: int, data: bytes, flags: int) -> int:
    """Write into the packet: 0 or an error number. Pointers into an skb end."""
    packet, offset = packet_of(machine, context), offset & M32
    if machine.program_type == "xdp":
        found = read_packet(machine, context, offset, len(data))
        if isinstance(found, int):
            return found
    else:
        packet.renew(machine.memory, "bpf_skb_store_bytes or bpf_dynptr_write")
        if flags & ~_STORE_FLAGS:
            return EINVAL
        if offset > _MAX_OFFSET or offset + len(data) > packet.size_bytes:
            return EFAULT
        if flags & _INVALIDATE_HASH:
            clear_hash(machine, packet)
    at = packet.start + offset
    packet.region.data[at : at + len(data)] = data
    return 0


def clear_hash(machine: "Machine", packet: Packet) -> None:
    """skb_clear_hash()."""
    machine.context.fields["hash"], packet.hash_known = 0, False
