# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers of XDP programs on their frame (net/core/filter.c); frames have no fragments here."""

from typing import TYPE_CHECKING

from harness.sim.alu import signed
from harness.sim.context import TAILROOM_BYTES
from harness.sim.errnos import EACCES, EINVAL
from harness.sim.helper import Table
from harness.sim.helper.packet import packet_of, read_packet, store_bytes
from harness.sim.packet import ETH_HEADER_BYTES
from harness.sim.signals import Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_FRAME_STRUCT_BYTES = 40  # struct xdp_frame, kept free at the start of the headroom
_MAX_META_BYTES = 255
_PAGE_BYTES = 4096
_HEADROOM = "headroom beyond XDP_PACKET_HEADROOM: how much there is depends on the driver"


def _adjust_head(machine: "Machine", context: int, delta: int) -> int:
    packet, move = packet_of(machine, context), signed(delta, 32)
    packet.renew(machine.memory, "bpf_xdp_adjust_head")
    meta_bytes = packet.start - packet.meta
    start = packet.start + move
    floor = _FRAME_STRUCT_BYTES + meta_bytes
    if start < floor and machine.context.live:
        raise Unsupported(_HEADROOM)
    if start < floor or start > packet.end - ETH_HEADER_BYTES:
        return EINVAL
    if meta_bytes:
        moved = bytes(packet.region.data[packet.meta : packet.start])
        packet.region.data[start - meta_bytes : start] = moved
    packet.start, packet.meta = start, start - meta_bytes
    packet.settle()
    return 0


def _adjust_meta(machine: "Machine", context: int, delta: int) -> int:
    packet = packet_of(machine, context)
    packet.renew(machine.memory, "bpf_xdp_adjust_meta")
    meta = packet.meta + signed(delta, 32)
    size = packet.start - meta
    if meta < _FRAME_STRUCT_BYTES and machine.context.live:
        raise Unsupported(_HEADROOM)
    if meta < _FRAME_STRUCT_BYTES or meta > packet.start:
        return EINVAL
    if size % 4 or size > _MAX_META_BYTES:
        return EACCES
    packet.meta = meta
    packet.settle()
    return 0


def _adjust_tail(machine: "Machine", context: int, delta: int) -> int:
    """Growing: zeros, up to the tailroom that BPF_PROG_TEST_RUN keeps free in its page."""
    packet, move = packet_of(machine, context), signed(delta, 32)
    packet.renew(machine.memory, "bpf_xdp_adjust_tail")
    if move > 0 and machine.context.live:
        raise Unsupported("bpf_xdp_adjust_tail that grows: its limit depends on the driver")
    end = packet.end + move
    if end > _PAGE_BYTES - TAILROOM_BYTES or end < packet.start + ETH_HEADER_BYTES:
        return EINVAL
    if move > 0:
        packet.region.data[packet.end : end] = bytes(move)
    packet.end = end
    packet.settle()
    return 0


def _length(machine: "Machine", context: int) -> int:
    return packet_of(machine, context).size_bytes


def _load(machine: "Machine", context: int, offset: int, target: int, size: int) -> int:
    data = read_packet(machine, context, offset, size)
    if isinstance(data, int):
        machine.memory.find(target, size, "bpf_xdp_load_bytes writes")
        return data
    machine.memory.write(target, data)
    return 0


def _store(machine: "Machine", context: int, offset: int, source: int, size: int) -> int:
    return store_bytes(machine, context, offset, machine.memory.read(source, size), 0)


HELPERS: Table = {
    44: ("bpf_xdp_adjust_head", 2, _adjust_head, "live: within the 256 bytes of headroom"),
    54: ("bpf_xdp_adjust_meta", 2, _adjust_meta, "live: within the 256 bytes of headroom"),
    65: ("bpf_xdp_adjust_tail", 2, _adjust_tail, "live: shrinks only"),
    188: ("bpf_xdp_get_buff_len", 1, _length, ""),
    189: ("bpf_xdp_load_bytes", 4, _load, ""),
    190: ("bpf_xdp_store_bytes", 4, _store, ""),
}
