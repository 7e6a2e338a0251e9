# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The simulated address space: regions with synthetic addresses, checked at every access.

An address is TAG << 56 | region number << 32 | offset: never a small number, never one of the
host, the same in every run. Owns bounds, write protection and the record of which stack bytes
were written. What a region stands for is its creator's business.
"""

from collections import deque
from collections.abc import Callable
from struct import Struct

from harness.sim.signals import Fault, Unsupported

TAG = 0xFE
STACK_BYTES = 512
_BASE = TAG << 24
# region numbers with this bit are stacks
STACKS = 1 << 23
_STACK_BASE = _BASE | STACKS
_STACK_NUMBERS = STACKS - 1
_OFFSET = 0xFFFF_FFFF
# in place of an address: no register has it
GONE = -1
_MAX_RETIRED = 4096
# regions that are gone and whose name is still known
_MAX_ENDED = 256
# of all regions but stacks; a region counts for what it costs here besides its bytes
MAX_BYTES = 192 << 20
_REGION_BYTES = 512

FORMATS = {1: Struct("<B"), 2: Struct("<H"), 4: Struct("<I"), 8: Struct("<Q")}
# bytes of a shadow, as a number of that size
WRITTEN = {size: int.from_bytes(b"\1" * size, "little") for size in FORMATS}

# of one size: address in, value out; address and value in
Loader = Callable[[int], int]
Storer = Callable[[int, int], None]
LoadHook = Callable[[int, int], int]
StoreHook = Callable[[int, int, int], None]


class Region:
    """One object in memory; only offsets low <= x < high may be touched."""

    __slots__ = (
        "address", "cells", "data", "high", "load", "low", "marks", "name", "shadow", "store",
        "top", "writable",
    )  # fmt: skip

    def __init__(self, name: str, address: int, data: bytearray) -> None:
        self.name = name
        # address of offset 0
        self.address = address
        self.data = data
        self.low = 0
        self.high = len(data)
        self.writable = True
        # one byte per byte of data, 1 where it was written; None: all of it counts as written
        self.shadow: bytearray | None = None
        # for contexts, whose fields are not plain memory: offset and size in, value out
        self.load: LoadHook | None = None
        self.store: StoreHook | None = None
        # of a frame's stack: what R10 is while it lives, GONE afterwards; data and shadow by size
        self.top = GONE
        self.cells: dict[int, memoryview] = {}
        self.marks: dict[int, memoryview] = {}

    @property
    def key(self) -> int:
        """Key in Memory.regions."""
        return self.address >> 32


# no access is in it
NOWHERE = Region("nothing", 0, bytearray())
_UNWRITTEN = bytes(STACK_BYTES)


def idle_stack(name: str) -> Region:
    """A stack of no frame yet."""
    made = Region(name, 0, bytearray(STACK_BYTES))
    made.high, made.shadow = 0, bytearray(STACK_BYTES)
    made.cells, made.marks = _by_size(memoryview(made.data)), _by_size(memoryview(made.shadow))
    return made


def _by_size(view: memoryview) -> dict[int, memoryview]:
    return {1: view, 2: view.cast("H"), 4: view.cast("I"), 8: view.cast("Q")}


class Memory:
    """All regions of one machine."""

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}
        self._next = 1
        self._free_stacks: list[Region] = []
        self._retired: deque[Region] = deque()
        self._ended: dict[int, str] = {}
        self._used_bytes = 0
        self._loaders = {size: self.loader(size) for size in FORMATS}
        self._storers = {size: self.storer(size) for size in FORMATS}

    def region(self, name: str, data: bytearray) -> Region:
        """Make a region that holds `data` (not copied). Raises Unsupported over MAX_BYTES."""
        self.charge(len(data) + _REGION_BYTES)
        while (key := _BASE | self._next) in self.regions:
            self._count()  # all numbers were in use once
        self._count()
        made = Region(name, key << 32, data)
        self.regions[key] = made
        return made

    def charge(self, size_bytes: int) -> None:
        """Count memory that is used; less than 0: that is not used any more."""
        self._used_bytes += size_bytes
        if self._used_bytes > MAX_BYTES:
            raise Unsupported(f"more than {MAX_BYTES >> 20} MiB of memory in use")

    def _count(self) -> None:
        self._next = (self._next + 1) % STACKS

    def unwritten(self, name: str, size_bytes: int) -> Region:
        """Make a region whose bytes may not be read before they are written."""
        made = self.region(name, bytearray(size_bytes))
        made.shadow = bytearray(size_bytes)
        return made

    def stack(self, name: str, number: int) -> Region:
        """Make the stack of one frame; its bytes may come from an old one.

        `number` makes the address: with what is left of the budget it is another one for each
        frame (of the last 8 million instructions), and costs nothing where nobody sees it.
        """
        made = self._free_stacks.pop() if self._free_stacks else idle_stack(name)
        made.name = name
        self.begin_stack(made, number)
        return made

    def begin_stack(self, region: Region, number: int) -> int:
        """Let a stack that is nobody's be a frame's, see `stack`: R10 of the frame."""
        regions = self.regions
        key = _STACK_BASE | number & _STACK_NUMBERS
        while key in regions:
            key = _STACK_BASE | (key + 1) & _STACK_NUMBERS
        regions[key] = region
        shadow = region.shadow
        if shadow is not None and 1 in shadow:
            shadow[:] = _UNWRITTEN
        region.address = address = key << 32
        region.high = STACK_BYTES
        region.top = top = address + STACK_BYTES
        return top

    def end_stack(self, region: Region) -> None:
        """End the life of a frame's stack."""
        del self.regions[region.address >> 32]
        region.high, region.top = 0, GONE
        self._free_stacks.append(region)

    def release(self, region: Region, what: str = "") -> None:
        """End a region's life: later accesses fault, of those too who remember it.

        The message then says `what` it was.
        """
        del self.regions[region.key]
        self._used_bytes -= len(region.data) + _REGION_BYTES
        region.high = region.low
        if what:
            self._ended[region.key] = what
            if len(self._ended) > _MAX_ENDED:
                del self._ended[next(iter(self._ended))]

    def retire(self, region: Region) -> None:
        """End a region's life once others ended: pointers to it may be used for a while."""
        self._retired.append(region)
        if len(self._retired) > _MAX_RETIRED:
            self.release(self._retired.popleft())

    def upcoming(self) -> int:
        """Address of the region that is made next."""
        while _BASE | self._next in self.regions:
            self._count()
        return (_BASE | self._next) << 32

    def rewind(self) -> None:
        """Give numbers out again that nothing has any more: called between runs, never inside.

        Without it a machine that runs millions of packets would come to the end of its numbers.
        """
        self._next = (next(reversed(self.regions), _BASE) & ~_BASE) + 1

    def find(self, address: int, size: int, what: str) -> tuple[Region, int]:
        """Region and offset of `size` bytes at `address`. Raises Fault when not all are in it."""
        region = self.regions.get(address >> 32)
        offset = address & _OFFSET
        if region is None or offset < region.low or offset + size > region.high:
            raise Fault(self.describe(address, size, what))
        return region, offset

    def load(self, address: int, size: int) -> int:
        """Value of `size` bytes (1, 2, 4 or 8), little endian. Raises Fault, Unsupported.

        A privileged program may read stack bytes that nobody wrote, and gets what was there.
        """
        return self._loaders[size](address)

    def store(self, address: int, size: int, value: int) -> None:
        """Write the low `size` bytes of `value`, little endian. Raises Fault."""
        self._storers[size](address, value)

    def loader(self, size: int) -> Loader:
        """`load` for one size. Engines keep it: programs spend most of their time here."""
        regions, describe, get = self.regions, self.describe, FORMATS[size].unpack_from
        written = WRITTEN[size]

        def load(address: int) -> int:
            region = regions.get(address >> 32)
            offset = address & _OFFSET
            if region is None or offset < region.low or offset + size > region.high:
                raise Fault(describe(address, size, "load"))
            if region.shadow is not None and get(region.shadow, offset)[0] != written:
                raise Unsupported(describe(address, size, "load", "never written"))
            if region.load is not None:
                return region.load(offset, size)
            value: int = get(region.data, offset)[0]
            return value

        return load

    def storer(self, size: int) -> Storer:
        """`store` for one size."""
        regions, describe, put = self.regions, self.describe, FORMATS[size].pack_into
        written, mask = WRITTEN[size], (1 << size * 8) - 1

        def store(address: int, value: int) -> None:
            region = regions.get(address >> 32)
            offset = address & _OFFSET
            if region is None or offset < region.low or offset + size > region.high:
                raise Fault(describe(address, size, "store"))
            if not region.writable:
                raise Fault(describe(address, size, "store", "read-only"))
            if region.store is not None:
                region.store(offset, size, value)
                return
            put(region.data, offset, value & mask)
            if region.shadow is not None:
                put(region.shadow, offset, written)

        return store

    def read(self, address: int, size: int) -> bytes:
        """Bytes for a helper's argument. Raises Fault, Unsupported."""
        region, offset = self.regions.get(address >> 32), address & _OFFSET
        end = offset + size
        if region is None or offset < region.low or end > region.high:
            raise Fault(self.describe(address, size, "helper reads"))
        if region.load is not None:
            raise Fault(self.describe(address, size, "helper reads", "not plain memory"))
        if region.shadow is not None and 0 in region.shadow[offset:end]:
            raise Unsupported(self.describe(address, size, "helper reads", "never written"))
        return bytes(region.data[offset:end])

    def clear(self, address: int, size: int) -> None:
        """Store zeros for a helper; makes none before it is known that they fit."""
        self.find(address, size, "helper writes")
        self.write(address, bytes(size))

    def write(self, address: int, data: bytes) -> None:
        """Store bytes for a helper."""
        region, offset = self.find(address, len(data), "helper writes")
        if not region.writable or region.store is not None:
            raise Fault(self.describe(address, len(data), "helper writes", "read-only"))
        region.data[offset : offset + len(data)] = data
        if region.shadow is not None:
            region.shadow[offset : offset + len(data)] = b"\1" * len(data)

    def describe(self, address: int, size: int, what: str, why: str = "out of bounds") -> str:
        """One line that says what was touched and what is there."""
        where = f"{what} of {size} bytes at 0x{address:x}"
        key, offset = address >> 32, address & _OFFSET
        region = self.regions.get(key)
        if offset > _OFFSET // 2 and key + 1 in self.regions:  # below the next one's start
            region, offset = self.regions[key + 1], offset - _OFFSET - 1
        if region is not None:
            bounds = f"{region.name}, which has offsets {region.low}..{region.high}"
            return f"{where}: {why}: offset {offset} of {bounds}"
        if address >> 56 != TAG:
            return f"{where}: not a pointer"
        if key in self._ended:
            return f"{where}: the pointer is of {self._ended[key]}: load it again"
        return f"{where}: nothing is there (its frame or object is gone)"
