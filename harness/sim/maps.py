# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps of the simulated kernel: arrays, hashes, program arrays, queues, ring buffers.

Owns look-up, update and delete with the kernel's error numbers (kernel/bpf/{array,hash}tab.c,
queue_stack_maps.c, ringbuf.c). One CPU: a per-CPU map holds one value. Each value is a region of
its own, so that running off its end faults.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.bpf.mapdef import MapDef, MapType
from harness.sim.memory import Memory, Region
from harness.sim.signals import Unsupported

EPERM, ENOENT, E2BIG, EAGAIN, EEXIST, EINVAL = -1, -2, -7, -11, -17, -22

_ANY, _NOEXIST, _EXIST, _LOCK = 0, 1, 2, 4
_RINGBUF_HEADER = 8

ARRAYS = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
HASHES = frozenset({
    MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH
})  # fmt: skip
_LRU = frozenset({MapType.LRU_HASH, MapType.LRU_PERCPU_HASH})
_PER_CPU_HASHES = frozenset({MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH})
QUEUES = frozenset({MapType.QUEUE, MapType.STACK})
SUPPORTED = ARRAYS | HASHES | QUEUES | {MapType.PROG_ARRAY, MapType.RINGBUF}


@dataclass(slots=True)
class Map:
    """One map and what it holds."""

    definition: MapDef
    memory: Memory
    # what BPF programs hold as the map's address; no byte of it can be read
    handle: Region
    # key bytes -> value, in order of insertion; an array's values appear when first looked up
    values: dict[bytes, Region] = field(default_factory=dict)
    # program array: index -> program name
    programs: dict[int, str] = field(default_factory=dict)
    # queue and stack: values, oldest first
    queue: list[bytes] = field(default_factory=list)
    # ring buffer: bytes taken by records that nobody consumes
    used_bytes: int = 0

    @property
    def name(self) -> str:
        """Name in the object."""
        return self.definition.name

    @property
    def is_array(self) -> bool:
        """Whether keys are indexes and always there."""
        return self.definition.type in ARRAYS

    def _make(self, key: bytes, data: bytearray) -> Region:
        return self.memory.region(f"{self.name}[{key.hex()}]", data)

    def lookup(self, key: bytes) -> int:
        """Address of the value, or 0."""
        found = self.values.get(key)
        if found is None and self.is_array and self._index(key) < self.definition.max_entries:
            found = self._make(key, bytearray(self.definition.value_size))
            self.values[key] = found
        return found.address if found is not None else 0

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0 or a negative error number."""
        if flags & ~_LOCK > _EXIST:
            return EINVAL
        if self.is_array:
            if self._index(key) >= self.definition.max_entries:
                return E2BIG
            if flags & _NOEXIST:
                return EEXIST
            self.lookup(key)
            self.values[key].data[:] = value
            return 0
        present = key in self.values
        if present and flags & _NOEXIST:
            return EEXIST
        if not present and flags & _EXIST:
            return ENOENT
        if not present and len(self.values) >= self.definition.max_entries:
            if self.definition.type in _LRU:
                raise Unsupported(f"eviction from map {self.name}")
            return E2BIG
        if present and self.definition.type in _PER_CPU_HASHES:
            self.values[key].data[:] = value
            return 0
        # the kernel too puts a new element in place: pointers to the old one keep the old value
        replaced = self._make(key, bytearray(value))
        self.values.pop(key, None)
        self.values[key] = replaced
        return 0

    def delete(self, key: bytes) -> int:
        """0 or a negative error number."""
        if self.is_array:
            return EINVAL
        return 0 if self.values.pop(key, None) is not None else ENOENT

    def items(self) -> Iterator[tuple[bytes, Region]]:
        """Keys and values: an array's by index, a hash's in order of insertion."""
        if self.is_array:
            for key in self._indexes():
                self.lookup(key)
                yield key, self.values[key]
        else:
            yield from list(self.values.items())

    def content(self) -> dict[str, str]:
        """All keys and values in hex; makes no value that was never looked up."""
        zeros = "00" * self.definition.value_size
        stored = {key.hex(): bytes(region.data).hex() for key, region in self.values.items()}
        if not self.is_array:
            return stored
        return {key.hex(): stored.get(key.hex(), zeros) for key in self._indexes()}

    def _indexes(self) -> Iterator[bytes]:
        return (i.to_bytes(4, "little") for i in range(self.definition.max_entries))

    def push(self, value: bytes, flags: int) -> int:
        """bpf_map_push_elem: 0 or a negative error number."""
        if flags not in (_ANY, _EXIST):
            return EINVAL
        if len(self.queue) >= self.definition.max_entries:
            if flags != _EXIST:
                return E2BIG
            self.queue.pop(0)
        self.queue.append(value)
        return 0

    def take(self, *, remove: bool) -> bytes | None:
        """bpf_map_pop_elem and bpf_map_peek_elem: the value, or None where it is empty."""
        if not self.queue:
            return None
        index = 0 if self.definition.type == MapType.QUEUE else -1
        return self.queue.pop(index) if remove else self.queue[index]

    def reserve(self, size_bytes: int) -> bool:
        """Take room for one ring buffer record; False where there is none."""
        length = (size_bytes + _RINGBUF_HEADER + 7) & ~7
        if self.used_bytes + length > self.definition.max_entries - 1:
            return False
        self.used_bytes += length
        return True

    def _index(self, key: bytes) -> int:
        return int.from_bytes(key[:4], "little")


def create(definition: MapDef, memory: Memory) -> Map:
    """Make an empty map with its initial programs. Unknown types fault when they are used."""
    handle = memory.region(f"map {definition.name}", bytearray())
    made = Map(definition, memory, handle)
    if definition.type == MapType.PROG_ARRAY:
        made.programs.update(definition.values)
    return made


def check(used: Map) -> Map:
    """The map itself; raises Unsupported for a type that is not modelled."""
    if used.definition.type not in SUPPORTED:
        raise Unsupported(f"map type {used.definition.type_name} of map {used.name}")
    return used


def dump(
    maps: dict[str, Map],
    sections: dict[str, Region],
    decode: Callable[[str, bytes], dict[str, str]],
) -> dict[str, dict[str, str]]:
    """Content of all maps and writable sections of globals, as an Observation holds it.

    Left out, because they have no keys that both sides could name: program arrays, queues,
    stacks, ring buffers and types that are not modelled.
    """
    content = {
        used.name: used.content()
        for used in maps.values()
        if used.definition.type in ARRAYS | HASHES
    }
    for name, region in sections.items():
        if region.writable:
            content[name] = decode(name, bytes(region.data))
    return content
