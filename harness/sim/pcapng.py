# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Captures in pcapng (draft-ietf-opsawg-pcapng): sections, interfaces, the three packet blocks.

Owns this format alone. Blocks of other types are skipped without being kept in memory.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.sim.batch import Batch
from harness.sim.pcap import (
    BATCH_PACKETS,
    ETHERNET,
    MAX_PACKET_BYTES,
    CaptureError,
    Source,
    link_error,
)

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
# a packet and generous options
_MAX_BLOCK_BYTES = MAX_PACKET_BYTES + (1 << 16)
_MAX_INTERFACES = 65_536
_SKIP_BYTES = 1 << 16
_BATCH_BYTES = 1 << 20
_TSRESOL, _TSOFFSET = 9, 14
_MICROSECONDS = 6
_U63 = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snaplen: int
    # time of a packet: units / per_second + offset_s
    per_second: int
    offset_s: int

    def time_ns(self, units: int) -> int:
        if self.per_second == 1_000_000 and not self.offset_s and units <= _U63 // 1000:
            return units * 1000
        time = units * 1_000_000_000 // self.per_second + self.offset_s * 1_000_000_000
        return min(max(time, 0), _U63)


@dataclass(slots=True)
class _Reader:
    source: Source
    order: str = "<"
    interfaces: list[_Interface] = field(default_factory=list)
    # packets since the last batch, one behind the other
    batch: Batch = field(default_factory=Batch)
    data: bytearray = field(default_factory=bytearray)
    # where the block that is being read starts
    start: int = 0
    # time of the packet before
    last_ns: int = 0

    def error(self, what: str) -> CaptureError:
        return self.source.error(what, self.start)

    def full(self) -> bool:
        return len(self.batch) >= BATCH_PACKETS or len(self.data) >= _BATCH_BYTES

    def take(self) -> Batch:
        """What was collected; collecting starts again."""
        made, self.batch = self.batch, Batch()
        made.data, self.data = bytes(self.data), bytearray()
        return made


def read(source: Source, first: bytes) -> Iterator[Batch]:
    """All packets; `first` are the four bytes that were read already. Raises CaptureError."""
    reader = _Reader(source)
    try:
        kind = first
        while kind:
            reader.start = source.offset - len(kind)
            _block(reader, kind)
            run = _run(reader)
            if len(reader.batch) and (run is not None or reader.full()):
                yield reader.take()
            if run is not None:
                yield run
            kind = source.read(4)
    except CaptureError:
        if len(reader.batch):
            yield reader.take()
        raise
    if len(reader.batch):
        yield reader.take()


def _run(reader: _Reader) -> Batch | None:
    """The enhanced packet blocks that come next, as far as they are in memory and in order.

    Most of a file is read here. Anything unusual is left where it is, for `_block` to judge.
    """
    data, at = reader.source.window()
    batch, begin, size = Batch(data), at, len(data)
    head, tail = struct.Struct(reader.order + "7I"), struct.Struct(reader.order + "I")
    unpack, check = head.unpack_from, tail.unpack_from
    while at + 32 <= size:
        kind, length, index, high, low, captured, wire = unpack(data, at)
        end = at + length
        if kind != _ENHANCED or length % 4 or captured > length - 32 or end > size:
            break
        if length > _MAX_BLOCK_BYTES or check(data, end - 4)[0] != length:
            break
        if index >= len(reader.interfaces) or reader.interfaces[index].link_type != ETHERNET:
            break
        batch.offsets.append(at + 28)
        batch.lengths.append(captured)
        batch.originals.append(wire)
        batch.times_ns.append(reader.interfaces[index].time_ns(high << 32 | low))
        at = end
    if at == begin:
        return None
    reader.source.skip(at - begin)
    reader.last_ns = batch.times_ns[-1]
    return batch


def _block(reader: _Reader, kind: bytes) -> None:
    source = reader.source
    size = source.read(4)
    if len(kind) + len(size) < 8:
        raise reader.error("the file ends inside of a block")
    body = b""
    if struct.unpack("<I", kind)[0] == _SECTION:  # the same in both orders
        body = source.read(4)
        if body not in _BYTE_ORDER:
            raise reader.error(f"byte order {body.hex()} of the section is unknown")
        reader.order = _BYTE_ORDER[body]
        reader.interfaces.clear()
    (number,), (length,) = (struct.unpack(reader.order + "I", part) for part in (kind, size))
    left = length - 12 - len(body)
    if length % 4 or left < 0:
        raise reader.error(f"a block of {length} bytes")
    take = _BLOCKS.get(number)
    if take is None:
        _skip(reader, left)
    elif length > _MAX_BLOCK_BYTES:
        raise reader.error(f"a block of {length} bytes")
    else:
        body += source.read(left)
    if source.read(4) != size:
        raise reader.error("the file ends inside of a block, or its two lengths differ")
    if take is not None:
        try:
            take(reader, body)
        except struct.error:
            raise reader.error(f"a block of type {number} with {len(body)} bytes") from None


def _skip(reader: _Reader, left: int) -> None:
    while left > 0:
        piece = reader.source.read(min(left, _SKIP_BYTES))
        if not piece:
            raise reader.error("the file ends inside of a block")
        left -= len(piece)


def _section(reader: _Reader, body: bytes) -> None:
    major, minor = struct.unpack_from(reader.order + "HH", body, 4)
    if major != 1:
        raise reader.error(f"pcapng version {major}.{minor}; 1.x is known")


def _interface(reader: _Reader, body: bytes) -> None:
    if len(reader.interfaces) >= _MAX_INTERFACES:
        raise reader.error(f"more than {_MAX_INTERFACES} interfaces")
    link_type, _reserved, snaplen = struct.unpack_from(reader.order + "HHI", body)
    resolution, offset_s, at = _MICROSECONDS, 0, 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(reader.order + "HH", body, at)
        content = body[at + 4 : at + 4 + size]
        if not code:
            break
        if len(content) < size:
            raise reader.error("an option that goes beyond its block")
        if code == _TSRESOL and size == 1:
            resolution = content[0]
        elif code == _TSOFFSET and size == 8:
            (offset_s,) = struct.unpack(reader.order + "q", content)
        at += 4 + (size + 3 & ~3)
    per_second = 1 << (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    reader.interfaces.append(_Interface(link_type, snaplen, per_second, offset_s))


def _enhanced(reader: _Reader, body: bytes) -> None:
    index, high, low, captured, wire = struct.unpack_from(reader.order + "IIIII", body)
    _packet(reader, index, (high << 32 | low), (20, captured, wire), body)


def _old_packet(reader: _Reader, body: bytes) -> None:
    index, _drops, high, low, captured, wire = struct.unpack_from(reader.order + "HHIIII", body)
    _packet(reader, index, (high << 32 | low), (20, captured, wire), body)


def _simple(reader: _Reader, body: bytes) -> None:
    """A packet without time: it gets the one of the packet before it."""
    (wire,) = struct.unpack_from(reader.order + "I", body)
    snaplen = reader.interfaces[0].snaplen if reader.interfaces else 0
    captured = min(wire, snaplen) if snaplen else wire
    _packet(reader, 0, None, (4, captured, wire), body)


def _packet(
    reader: _Reader, index: int, units: int | None, span: tuple[int, int, int], body: bytes
) -> None:
    start, captured, wire = span
    if index >= len(reader.interfaces):
        raise reader.error(f"a packet of interface {index}, of {len(reader.interfaces)}")
    interface = reader.interfaces[index]
    if interface.link_type != ETHERNET:
        raise link_error(reader.source, interface.link_type, reader.start)
    if captured > MAX_PACKET_BYTES or start + captured > len(body):
        raise reader.error(f"a packet of {captured} bytes in a block of {len(body) + 12}")
    batch = reader.batch
    batch.offsets.append(len(reader.data))
    batch.lengths.append(captured)
    batch.originals.append(wire)
    if units is not None:
        reader.last_ns = interface.time_ns(units)
    batch.times_ns.append(reader.last_ns)
    reader.data += body[start : start + captured]


_BLOCKS: dict[int, Callable[[_Reader, bytes], None]] = {
    _SECTION: _section,
    _INTERFACE: _interface,
    _OLD_PACKET: _old_packet,
    _SIMPLE: _simple,
    _ENHANCED: _enhanced,
}
