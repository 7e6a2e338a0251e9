# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Dynamic pointers: helpers and kfuncs (kernel/bpf/helpers.c, net/core/filter.c).

A dynptr is 16 bytes of the program's stack, laid out as the kernel's struct bpf_dynptr_kern: data,
size with kind and read-only bit, offset. A program that writes over them loses it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.sim import resources
from harness.sim.alu import M32, M64
from harness.sim.errnos import E2BIG, EINVAL, ERANGE
from harness.sim.helper import Table
from harness.sim.helper.packet import packet_of, read_packet, store_bytes
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

MAX_BYTES = (1 << 24) - 1
LOCAL, RINGBUF, SKB, XDP = 1, 2, 3, 4
_KIND_SHIFT, _READ_ONLY = 28, 1 << 31
_BYTES = 16


@dataclass(frozen=True, slots=True)
class Dynptr:
    """What the 16 bytes say; `data` 0: null."""

    data: int
    kind: int
    offset: int
    size_bytes: int
    read_only: bool = False


NULL = Dynptr(0, 0, 0, 0)


def write(machine: "Machine", address: int, made: Dynptr) -> None:
    """Put a dynptr into the program's stack."""
    packed = made.size_bytes | made.kind << _KIND_SHIFT | (_READ_ONLY if made.read_only else 0)
    words = (made.data.to_bytes(8, "little"), packed.to_bytes(4, "little"))
    machine.memory.write(address, b"".join(words) + made.offset.to_bytes(4, "little"))


def read(machine: "Machine", address: int) -> Dynptr:
    """The dynptr at `address`. Raises Fault where there is none."""
    raw = machine.memory.read(address, _BYTES)
    data, packed = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:12], "little")
    kind = packed >> _KIND_SHIFT & 7
    if (data and kind not in (LOCAL, RINGBUF, SKB, XDP)) or (not data and packed):
        raise Fault(f"there is no dynptr at 0x{address:x}: its bytes were written over")
    offset = int.from_bytes(raw[12:], "little")
    return Dynptr(data, kind, offset, packed & MAX_BYTES, bool(packed & _READ_ONLY))


def _outside(found: Dynptr, offset: int, size: int) -> bool:
    """bpf_dynptr_check_off_len()."""
    return size > found.size_bytes or offset > found.size_bytes - size


def _width(machine: "Machine", number: int) -> int:
    """Sizes and offsets have 32 bits, later 64."""
    return number if machine.profile.late_helpers else number & M32


def _from_mem(machine: "Machine", data: int, size: int, flags: int, target: int) -> int:
    problem = E2BIG if _width(machine, size) > MAX_BYTES else EINVAL if flags else 0
    if not problem:
        machine.memory.find(data, size, "dynptr over memory")
    write(machine, target, NULL if problem else Dynptr(data, LOCAL, 0, size & M32))
    return problem


def load(machine: "Machine", found: Dynptr, offset: int, size: int) -> bytes | int:
    """`size` bytes, or an error number."""
    if not found.data:
        return EINVAL
    if _outside(found, offset, size):
        return E2BIG
    at = found.offset + offset
    if found.kind in (SKB, XDP):
        return read_packet(machine, found.data, at, size)
    return machine.memory.read(found.data + at, size)


def _read(machine: "Machine", target: int, size: int, source: int, offset: int, flags: int) -> int:
    found = read(machine, source)
    size, offset = _width(machine, size), _width(machine, offset)
    machine.memory.find(target, size, "bpf_dynptr_read writes")
    if flags:
        return EINVAL
    data = load(machine, found, offset, size)
    if isinstance(data, int):
        return data
    machine.memory.write(target, data)
    return 0


def _write(machine: "Machine", target: int, offset: int, source: int, size: int, flags: int) -> int:
    found = read(machine, target)
    size, offset = _width(machine, size), _width(machine, offset)
    data = machine.memory.read(source, size)
    if not found.data or found.read_only:
        return EINVAL
    if _outside(found, offset, size):
        return E2BIG
    if flags and found.kind != SKB:
        return EINVAL
    at = found.offset + offset
    if found.kind in (SKB, XDP):
        return store_bytes(machine, found.data, at, data, flags)
    machine.memory.write(found.data + at, data)
    return 0


def _data(machine: "Machine", source: int, offset: int, size: int) -> int:
    found = read(machine, source)
    size, offset = _width(machine, size), _width(machine, offset)
    if not found.data or _outside(found, offset, size) or found.read_only:
        return 0
    return 0 if found.kind in (SKB, XDP) else found.data + found.offset + offset


# ---- kfuncs ---------------------------------------------------------------------------------


def _from_packet(kind: int) -> Callable[["Machine", int, int, int], int]:
    def make(machine: "Machine", context: int, flags: int, target: int) -> int:
        packet = packet_of(machine, context)
        size = packet.end - packet.start
        made = Dynptr(context, kind, 0, size, read_only=kind == SKB and not _may_write(machine))
        write(machine, target, NULL if flags else made)
        return EINVAL if flags else 0

    return make


def _may_write(machine: "Machine") -> bool:
    """may_access_direct_pkt_data(): cgroup_skb programs and their like only read."""
    return machine.program_type in ("tc", "xdp", "lwt_xmit", "sk_skb", "freplace")


def _slice(machine: "Machine", source: int, offset: int, buffer: int, size: int) -> int:
    """All data is linear: the buffer is never needed."""
    found = read(machine, source)
    if buffer:
        machine.memory.find(buffer, size, "buffer of a dynptr slice")
    size, offset = _width(machine, size), _width(machine, offset)
    if not found.data or _outside(found, offset, size):
        return 0
    at = found.offset + offset
    if found.kind not in (SKB, XDP):
        return found.data + at
    packet = packet_of(machine, found.data)
    if packet.start + at + size > packet.end:
        return 0
    return packet.region.address + packet.start + at


def _slice_rdwr(machine: "Machine", source: int, offset: int, buffer: int, size: int) -> int:
    if read(machine, source).read_only:
        return 0
    return _slice(machine, source, offset, buffer, size)


def _adjust(machine: "Machine", address: int, start: int, end: int) -> int:
    found = read(machine, address)
    start, end = _width(machine, start), _width(machine, end)
    if not found.data or start > end:
        return EINVAL
    if end > found.size_bytes:
        return ERANGE
    made = replace(found, offset=found.offset + start, size_bytes=end - start)
    write(machine, address, made)
    return 0


def _is_null(machine: "Machine", address: int) -> int:
    return int(not read(machine, address).data)


def _is_rdonly(machine: "Machine", address: int) -> int:
    return int(read(machine, address).read_only)


def _size(machine: "Machine", address: int) -> int:
    found = read(machine, address)
    if found.data:
        return found.size_bytes
    return EINVAL if machine.profile.late_helpers else EINVAL & M32


def _clone(machine: "Machine", address: int, target: int) -> int:
    found = read(machine, address)
    if found.kind == RINGBUF and machine.resources.find(resources.RINGBUF_DYNPTR, address) is None:
        raise Unsupported("a clone of a clone of a ring buffer dynptr")
    write(machine, target, found)
    return 0 if found.data else EINVAL


HELPERS: Table = {
    197: ("bpf_dynptr_from_mem", 4, _from_mem, ""),
    201: ("bpf_dynptr_read", 5, _read, ""),
    202: ("bpf_dynptr_write", 5, _write, ""),
    203: ("bpf_dynptr_data", 3, _data, ""),
}


def _unsigned(function: Callable[..., int]) -> Callable[..., int]:
    """The same, with the result as a register holds it."""

    def call(machine: "Machine", *args: int) -> int:
        return function(machine, *args) & M64

    return call


# name -> (arguments, function): harness.sim.kfuncs takes them into its table
KFUNCS: dict[str, tuple[int, Callable[..., int | None]]] = {
    name: (count, _unsigned(function))
    for name, count, function in (
        ("bpf_dynptr_from_skb", 3, _from_packet(SKB)),
        ("bpf_dynptr_from_xdp", 3, _from_packet(XDP)),
        ("bpf_dynptr_slice", 4, _slice),
        ("bpf_dynptr_slice_rdwr", 4, _slice_rdwr),
        ("bpf_dynptr_adjust", 3, _adjust),
        ("bpf_dynptr_is_null", 1, _is_null),
        ("bpf_dynptr_is_rdonly", 1, _is_rdonly),
        ("bpf_dynptr_size", 1, _size),
        ("bpf_dynptr_clone", 2, _clone),
    )
}
