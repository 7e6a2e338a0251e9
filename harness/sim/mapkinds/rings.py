# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Ring buffer (kernel/bpf/ringbuf.c): positions, headers and what a consumer would read.

Owns the layout: a record is a header of 8 bytes (length with the busy and discard bits, page
offset) and its data, rounded up to 8. Nobody consumes while a program runs; consume() is for
whoever looks afterwards.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.sim.mapkinds.place import Place, refused
from harness.sim.memory import Region

HEADER_BYTES = 8
_BUSY, _DISCARD = 1 << 31, 1 << 30
_MAX_RECORD_BYTES = (1 << 32) // 4 - 1
# offset of the data pages behind the pages of the two positions, in pages (RINGBUF_PGOFF)
_PAGE_BYTES, _FIRST_PAGES = 4096, 3
_OVERWRITE = 1 << 19  # BPF_F_RB_OVERWRITE


@dataclass(slots=True)
class Reserved:
    """One record; `region` is None once it is submitted or discarded."""

    position: int
    size_bytes: int
    region: Region | None
    data: bytes = b""
    discarded: bool = False

    @property
    def end(self) -> int:
        """Position behind it."""
        return self.position + ((self.size_bytes + HEADER_BYTES + 7) & ~7)

    def header(self, ring_bytes: int) -> bytes:
        """The 8 bytes in front of the data."""
        bits = _BUSY if self.region is not None else _DISCARD if self.discarded else 0
        page = self.position % ring_bytes // _PAGE_BYTES + _FIRST_PAGES
        return (self.size_bytes | bits).to_bytes(4, "little") + page.to_bytes(4, "little")


@dataclass(slots=True)
class Ring:
    """A ring buffer."""

    place: Place
    producer: int = 0
    consumer: int = 0
    # not consumed yet, oldest first
    records: deque[Reserved] = field(default_factory=deque)
    # region key -> record that is still reserved
    open: dict[int, Reserved] = field(default_factory=dict)
    ordered = True
    has_content = False

    lookup = update = delete = items = content = refused("keys")
    push = pop = peek = refused("push, pop or peek")

    @property
    def size_bytes(self) -> int:
        """Bytes of the data area."""
        return self.place.definition.max_entries

    @property
    def pending(self) -> int:
        """Position of the oldest record that is still reserved."""
        first = next(iter(self.open.values()), None)
        return first.position if first else self.producer

    def reserve(self, size_bytes: int) -> Region | None:
        """Room for a record, or None where there is none. Its bytes may not be read yet."""
        if size_bytes > _MAX_RECORD_BYTES:
            return None
        record = Reserved(self.producer, size_bytes, None)
        length = record.end - record.position
        if length > self.size_bytes:
            return None
        oldest = self.pending if self.place.definition.flags & _OVERWRITE else self.consumer
        if record.end - oldest > self.size_bytes - 1:
            return None
        region = self.place.memory.unwritten("ring buffer record", size_bytes)
        record.region = region
        self.open[region.key] = record
        self.records.append(record)
        self.producer = record.end
        self._overwrite()
        return region

    def _overwrite(self) -> None:
        """Let go what the newest record lies on."""
        while self.records and self.producer - self.records[0].position > self.size_bytes - 1:
            self.records.popleft()

    def end(self, record: Reserved, *, discard: bool) -> None:
        """Submit or discard."""
        region = record.region
        assert region is not None
        record.data, record.discarded, record.region = bytes(region.data), discard, None
        del self.open[region.key]
        self.place.memory.release(region)

    @property
    def available(self) -> int:
        """bpf_ringbuf_query(BPF_RB_AVAIL_DATA)."""
        first = self.consumer
        if self.place.definition.flags & _OVERWRITE and self.records:
            first = max(first, self.records[0].position)
        return self.producer - first

    def consume(self) -> Iterator[bytes]:
        """Data of what was submitted, oldest first, up to the first that is still reserved."""
        while self.records and self.records[0].region is None:
            record = self.records.popleft()
            self.consumer = record.end
            if not record.discarded:
                yield record.data

    def area(self) -> bytes:
        """The data area as it is mapped: what was not consumed yet, in its place."""
        area = bytearray(self.size_bytes)
        for record in self.records:
            data = bytes(record.region.data) if record.region else record.data
            for index, byte in enumerate(record.header(self.size_bytes) + data):
                area[(record.position + index) % self.size_bytes] = byte
        return bytes(area)
