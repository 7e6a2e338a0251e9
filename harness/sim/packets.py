# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers that touch the packet of the running program (net/core/filter.c)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.sim.alu import M32, signed
from harness.sim.context import ETH_HEADER_BYTES, Packet
from harness.sim.maps import EINVAL
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_EFAULT = -14
_MAX_OFFSET = 0x7FFF_FFFF
_XDP_FRAME_BYTES = 40  # struct xdp_frame, which the kernel keeps free at the start of the headroom
_HEADROOM = "headroom beyond XDP_PACKET_HEADROOM: how much there is depends on the driver"
_STORE_FLAGS = 3  # BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH
_TC_ACT_REDIRECT = 7
_XDP_REDIRECT = 4
_REDIRECT_INGRESS = 1
_CSUM_BYTES = 512  # scratch pad of bpf_csum_diff() before v6.13


def _packet(machine: "Machine", context: int) -> Packet:
    packet = machine.context.packet
    if packet is None or context != machine.context.address:
        raise Fault("R1 is not the context of a packet program")
    return packet


def _load_bytes(machine: "Machine", context: int, offset: int, target: int, size: int) -> int:
    packet, start = _packet(machine, context), offset & M32
    if start > _MAX_OFFSET or packet.start + start + size > packet.end:
        machine.memory.write(target, bytes(size))
        return _EFAULT
    at = packet.start + start
    machine.memory.write(target, bytes(packet.region.data[at : at + size]))
    return 0


def _store_bytes(
    machine: "Machine", context: int, offset: int, source: int, size: int, flags: int
) -> int:
    packet, start = _packet(machine, context), offset & M32
    if flags & ~_STORE_FLAGS:
        return EINVAL
    data = machine.memory.read(source, size)
    if start > _MAX_OFFSET or packet.start + start + size > packet.end:
        return _EFAULT
    at = packet.start + start
    packet.region.data[at : at + size] = data
    return 0


def _pull_data(machine: "Machine", context: int, size: int) -> int:
    """All data of a test frame is linear already."""
    packet = _packet(machine, context)
    return -12 if size & M32 > packet.end - packet.start else 0  # ENOMEM


def _adjust_head(machine: "Machine", context: int, delta: int) -> int:
    packet, move = _packet(machine, context), signed(delta, 32)
    meta_bytes = packet.start - packet.meta
    start = packet.start + move
    floor = _XDP_FRAME_BYTES + meta_bytes
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
    packet = _packet(machine, context)
    meta = packet.meta + signed(delta, 32)
    size = packet.start - meta
    if meta < _XDP_FRAME_BYTES and machine.context.live:
        raise Unsupported(_HEADROOM)
    if meta < _XDP_FRAME_BYTES or meta > packet.start or size % 4 or size > 255:
        return EINVAL if meta < _XDP_FRAME_BYTES or meta > packet.start else -13  # EACCES
    packet.meta = meta
    packet.settle()
    return 0


def _adjust_tail(machine: "Machine", context: int, delta: int) -> int:
    packet, move = _packet(machine, context), signed(delta, 32)
    if move > 0:
        raise Unsupported("bpf_xdp_adjust_tail that grows: its limit depends on the driver")
    end = packet.end + move
    if end < packet.start + ETH_HEADER_BYTES:
        return EINVAL
    packet.end = end
    packet.settle()
    return 0


def _redirect(machine: "Machine", _ifindex: int, flags: int) -> int:
    """The value is the hook's redirect code; wrong flags give its abort code."""
    xdp = machine.program_type == "xdp"
    if flags & ~(0 if xdp else _REDIRECT_INGRESS):
        return 0 if xdp else 2  # XDP_ABORTED, TC_ACT_SHOT
    if machine.context.live:
        raise Unsupported("bpf_redirect on a live hook: no interface number is known here")
    return _XDP_REDIRECT if xdp else _TC_ACT_REDIRECT


def _sum32(data: bytes, seed: int) -> int:
    """csum_partial(): sum of little-endian words with the carries added at the low end."""
    total = seed + sum(int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4))
    while total >> 32:
        total = (total & M32) + (total >> 32)
    return total


def _csum_diff(
    machine: "Machine", old: int, old_size: int, new: int, new_size: int, seed: int
) -> int:
    """bpf_csum_diff(); only its representation differs between kernels."""
    folds = machine.profile.csum_diff_folds
    if old_size % 4 or new_size % 4 or (not folds and old_size + new_size > _CSUM_BYTES):
        return EINVAL
    gone = machine.memory.read(old, old_size) if old_size else b""
    come = machine.memory.read(new, new_size) if new_size else b""
    if not folds:
        return _sum32(bytes(byte ^ 0xFF for byte in gone) + come, seed & M32)
    if come and gone:
        total = _sum32(b"", _sum32(come, seed & M32) + (_sum32(gone, 0) ^ M32))
    elif gone:
        total = _sum32(gone, ~seed & M32) ^ M32
    else:
        total = _sum32(come, seed & M32)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


HELPERS: dict[int, tuple[str, int, Callable[..., int | None]]] = {
    9: ("bpf_skb_store_bytes", 5, _store_bytes),
    23: ("bpf_redirect", 2, _redirect),
    26: ("bpf_skb_load_bytes", 4, _load_bytes),
    28: ("bpf_csum_diff", 5, _csum_diff),
    39: ("bpf_skb_pull_data", 2, _pull_data),
    44: ("bpf_xdp_adjust_head", 2, _adjust_head),
    54: ("bpf_xdp_adjust_meta", 2, _adjust_meta),
    65: ("bpf_xdp_adjust_tail", 2, _adjust_tail),
}
