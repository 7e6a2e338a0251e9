# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Captures in and out: pcap of both byte orders, in microseconds or nanoseconds; gzip around it.

Owns opening, the classic format (draft-ietf-opsawg-pcap) and its writer; pcapng is
harness.sim.pcapng's. Reads piece by piece: memory stays bounded whatever the file says. What is
wrong with a file is a CaptureError that names the byte, after everything before it was handed out.
"""

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from harness.errors import UsageError
from harness.sim.batch import Batch, Records

ETHERNET = 1
# MAXIMUM_SNAPLEN of libpcap: a longer packet is a broken file
MAX_PACKET_BYTES = 262_144
# packets handed out at once, at most
BATCH_PACKETS = 4096
_PIECE_BYTES = 1 << 18
_HEADER_BYTES, _RECORD_BYTES = 24, 16
_U63 = (1 << 63) - 1

# magic number as the file has it -> byte order, nanoseconds of one unit of time
_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zX": "compressed with xz",
    b"BZh9": "compressed with bzip2",
    b"\x34\xcd\xb2\xa1": "a pcap of the modified kind (Kuznetzov)",
    b"\xa1\xb2\xcd\x34": "a pcap of the modified kind (Kuznetzov)",
    b"\x7fELF": "an ELF file",
}
_LINK_TYPES = {
    0: "BSD loopback", 9: "PPP", 12: "raw IP", 14: "raw IP", 101: "raw IP", 105: "802.11",
    108: "OpenBSD loopback", 113: "Linux cooked", 127: "802.11 radiotap", 189: "USB",
    192: "PPI", 195: "802.15.4", 228: "raw IPv4", 229: "raw IPv6", 249: "USB",
    253: "netlink", 276: "Linux cooked v2",
}  # fmt: skip


class CaptureError(UsageError):
    """A capture that cannot be read, or not to its end."""


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class Source:
    """Bytes of a capture from its start on, and how far we are."""

    def __init__(self, name: str, stream: _Stream) -> None:
        self.name = name
        # of the (unpacked) file: where `read` goes on
        self.offset = 0
        self._stream = stream
        # read already, and how much of it was handed out
        self._buffer, self._at = b"", 0
        # why there is no more, where it is not the end of the file
        self._failed = ""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, less only at the end. Raises CaptureError.

        What came before an error is handed out; the next call raises.
        """
        buffer, at = self.window()
        data = buffer[at : at + size]
        self.skip(len(data))
        while len(data) < size:
            buffer, at = self.window()
            if not buffer:
                break
            piece = buffer[: size - len(data)]
            self.skip(len(piece))
            data += piece
        if not data and self._failed:
            raise self.error(self._failed)
        return data

    def window(self) -> tuple[bytes, int]:
        """What was read and where what is not handed out yet starts; b"" at the end."""
        if self._at >= len(self._buffer):
            self._buffer, self._at = b"" if self._failed else self._piece(), 0
        return self._buffer, self._at

    def skip(self, size: int) -> None:
        """Count `size` bytes of the window as handed out."""
        self._at += size
        self.offset += size

    def _piece(self) -> bytes:
        try:
            return self._stream.read1(_PIECE_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._failed = f"the gzip data is broken: {error}"
        except OSError as error:
            self._failed = f"cannot be read: {error.strerror or error}"
        return b""

    def error(self, what: str, offset: int | None = None, fix: str = "") -> CaptureError:
        """An error at `offset`, or where reading has got to."""
        at = self.offset if offset is None else offset
        return CaptureError(f"{self.name}: byte {at}: {self._failed or what}", fix=fix)


class Capture:
    """A pcap or pcapng file, "-" for standard input; gzip is unpacked. Read once, while open.

    Raises UsageError for a file that cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # walks over the records of a pcap; an engine may have a faster one
        self.records: Records = _records
        self._stream = _open(path)
        size = os.fstat(self._stream.fileno()).st_size
        # as it is stored; None where that is not known
        self.size_bytes = size if size and self._stream.seekable() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Batch]:
        """All packets.

        Raises CaptureError: no capture, not Ethernet, or broken further on (after the batches
        before).
        """
        try:
            packed = self._stream.peek(2)[:2] == _GZIP
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror or error}") from error
        stream = gzip.GzipFile(fileobj=self._stream) if packed else self._stream
        yield from _read(Source(self.path, stream), self.records)

    def share_done(self) -> float | None:
        """How much of the file was read, 0 to 1; None where its size is not known."""
        if self.size_bytes is None:
            return None
        return min(self._stream.tell() / self.size_bytes, 1.0)


def link_error(source: Source, link_type: int, offset: int) -> CaptureError:
    """Why packets of another link layer are refused."""
    named = _LINK_TYPES.get(link_type)
    shown = f"{link_type} ({named})" if named else str(link_type)
    fix = "capture on the Ethernet interface itself (not on 'any'), or with -y EN10MB"
    return source.error(f"link type {shown}, not Ethernet (1)", offset, fix)


def _open(path: str) -> BufferedReader:
    try:
        return open(0, "rb", closefd=False) if path == "-" else Path(path).open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: {reason}", fix="name a pcap or pcapng file") from error


def _read(source: Source, records: Records) -> Iterator[Batch]:
    magic = source.read(4)
    if magic in _MAGIC:
        yield from _read_pcap(source, magic, records)
    elif magic == _PCAPNG:
        from harness.sim import pcapng  # noqa: PLC0415  # the two formats know each other

        yield from pcapng.read(source, magic)
    else:
        found = _OTHERS.get(magic) or (f"begins with {magic.hex()}" if magic else "empty")
        raise source.error(f"not a capture: {found}", 0, "give a pcap or pcapng file, or one in gz")


def _read_pcap(source: Source, magic: bytes, records: Records) -> Iterator[Batch]:
    order, unit_ns = _MAGIC[magic]
    rest = source.read(_HEADER_BYTES - 4)
    if len(rest) < _HEADER_BYTES - 4:
        raise source.error("the file ends inside of its header")
    major, minor, _zone, _sigfigs, _snaplen, link = struct.unpack(order + "HHiIII", rest)
    if major != 2 or minor < 3:
        raise source.error(f"pcap version {major}.{minor}; 2.3 and 2.4 are known", 4)
    if link & 0x03FF_FFFF != ETHERNET:
        raise link_error(source, link & 0x03FF_FFFF, 20)
    data, start = b"", source.offset
    while piece := source.read(_PIECE_BYTES):
        data += piece
        used, batch, wrong = records(data, order, unit_ns)
        if len(batch):
            yield batch
        if wrong:
            raise source.error(f"a packet of {wrong} bytes", start + used)
        data, start = data[used:], start + used
    if data:
        raise source.error("the file ends inside of a packet", start)


def _records(data: bytes, order: str, unit_ns: int) -> tuple[int, Batch, int]:
    """Walk over whole records: how many bytes they take, the packets, and a length that is wrong.

    The loop of a capture's reading: nothing else is done for each packet.
    """
    batch = Batch(data)
    unpack, size, position = struct.Struct(order + "IIII").unpack_from, len(data), 0
    offset, length = batch.offsets.append, batch.lengths.append
    original, time = batch.originals.append, batch.times_ns.append
    while position + _RECORD_BYTES <= size:
        seconds, fraction, captured, wire = unpack(data, position)
        if captured > MAX_PACKET_BYTES:
            return position, batch, captured
        end = position + _RECORD_BYTES + captured
        if end > size:
            break
        offset(position + _RECORD_BYTES)
        length(captured)
        original(wire)
        time(seconds * 1_000_000_000 + fraction * unit_ns)
        position = end
    return position, batch, 0


class Writer:
    """A pcap file in nanoseconds, little endian, link type Ethernet."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        header = struct.pack("<HHiIII", 2, 4, 0, 0, MAX_PACKET_BYTES, ETHERNET)
        stream.write(b"\x4d\x3c\xb2\xa1" + header)

    def packet(self, time_ns: int, data: bytes, original: int) -> None:
        """Add one packet; `original` is its length on the wire."""
        seconds, rest = divmod(min(time_ns, _U63), 1_000_000_000)
        head = struct.pack("<IIII", seconds & 0xFFFF_FFFF, rest, len(data), original & 0xFFFF_FFFF)
        self._stream.write(head + data)
