# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Hash maps, their LRU and per-CPU kinds (kernel/bpf/hashtab.c).

Owns eviction: least recently used goes first, where a lookup or update by a program is a use.
The kernel's order depends on its buckets and CPUs (bpf_lru_list.c), so the map is in doubt from
the first element that had to go.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.bpf.mapdef import MapType
from harness.sim.errnos import E2BIG, EEXIST, EINVAL, ENOENT
from harness.sim.mapkinds.arrays import joined, per_cpu
from harness.sim.mapkinds.flags import EXIST, LOCK, NOEXIST
from harness.sim.mapkinds.place import Place, refused
from harness.sim.memory import Region

_LRU = frozenset({MapType.LRU_HASH, MapType.LRU_PERCPU_HASH})
_EVICTION = "eviction from a full LRU"


@dataclass(slots=True)
class Hash:
    """A hash map of one value for each key, in order of insertion."""

    place: Place
    regions: dict[bytes, Region] = field(default_factory=dict)
    ordered = False
    has_content = True

    push = pop = peek = refused("push, pop or peek")

    def lookup(self, key: bytes) -> int:
        """Address of the value, or 0."""
        found = self.regions.get(key)
        return found.address if found is not None else 0

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0 or a negative error number.

        The kernel too puts a new element in place: pointers to the old one keep the old value.
        """
        if flags & ~LOCK > EXIST or (flags & LOCK and not self.place.has_lock):
            return EINVAL
        if flags & LOCK and key in self.regions:
            problem = presence(flags, present=True)
            if not problem:
                self.place.put(self.regions[key], value)
            return problem
        old = self.regions.pop(key, None)
        problem = presence(flags, present=old is not None)
        if not problem and old is None and len(self.regions) >= self.place.definition.max_entries:
            problem = E2BIG
        if problem:
            if old is not None:
                self.regions[key] = old
            return problem
        self.regions[key] = self.place.value(key, value)
        if old is not None:
            self.place.memory.retire(old)
        return 0

    def delete(self, key: bytes) -> int:
        """0 or a negative error number."""
        old = self.regions.pop(key, None)
        if old is None:
            return ENOENT
        self.place.memory.retire(old)
        return 0

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Keys and addresses of values, in order of insertion."""
        for key, region in list(self.regions.items()):
            if self.regions.get(key) is region:  # a callback may have deleted it
                yield key, region.address

    def content(self) -> dict[str, str]:
        """All keys and values in hex."""
        return {key.hex(): self.place.shown(region) for key, region in self.regions.items()}


@dataclass(slots=True)
class LruHash:
    """A hash map that makes room by itself."""

    place: Place
    # least recently used first
    regions: dict[bytes, Region] = field(default_factory=dict)
    ordered = False
    has_content = True

    push = pop = peek = refused("push, pop or peek")
    items = Hash.items
    content = Hash.content
    delete = Hash.delete

    def lookup(self, key: bytes) -> int:
        """Address of the value, or 0; a use."""
        found = self.regions.pop(key, None)
        if found is None:
            return 0
        self.regions[key] = found
        return found.address

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0 or a negative error number.

        Replacing an element takes a free one too, so in the kernel it may evict another.
        """
        if flags > EXIST:
            return EINVAL
        if len(self.regions) >= self.place.definition.max_entries:
            self.place.doubt(_EVICTION)
        problem = presence(flags, present=key in self.regions)
        if problem:
            return problem
        old = self.regions.pop(key, None)
        if old is None and len(self.regions) >= self.place.definition.max_entries:
            old = self.regions.pop(next(iter(self.regions)))
        if old is not None:
            self.place.memory.retire(old)
        self.regions[key] = self.place.value(key, value)
        return 0


@dataclass(slots=True)
class PerCpuHash:
    """A hash map with a value for each CPU; evicts if it is an LRU."""

    place: Place
    # key -> region of each CPU; least recently used first in an LRU
    regions: dict[bytes, list[Region]] = field(default_factory=dict)
    ordered = False
    has_content = True

    push = pop = peek = refused("push, pop or peek")

    def lookup(self, key: bytes) -> int:
        """Address of this CPU's value, or 0."""
        return self.lookup_on(key, self.place.world.cpu)

    def lookup_on(self, key: bytes, cpu: int) -> int:
        """Address of the value of a CPU that exists, or 0."""
        found = self.regions.get(key)
        if found is None:
            return 0
        if self.place.definition.type in _LRU:
            self.regions[key] = self.regions.pop(key)
        return found[cpu].address

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0 or a negative error number; writes this CPU's value, in place where there is one.

        A new element is zero for the other CPUs (pcpu_init_value()).
        """
        if flags > EXIST:
            return EINVAL
        lru = self.place.definition.type in _LRU
        full = len(self.regions) >= self.place.definition.max_entries
        if full and lru:
            self.place.doubt(_EVICTION)
        found = self.regions.get(key)
        problem = presence(flags, present=found is not None)
        if not problem and found is None and full and not lru:
            problem = E2BIG
        if problem:
            return problem
        if found is None:
            if full:
                self._forget(next(iter(self.regions)))
            found = self.regions[key] = per_cpu(self.place, key)
        self.place.put(found[self.place.world.cpu], value)
        return 0

    def delete(self, key: bytes) -> int:
        """0 or a negative error number."""
        if key not in self.regions:
            return ENOENT
        self._forget(key)
        return 0

    def _forget(self, key: bytes) -> None:
        for region in self.regions.pop(key):
            self.place.memory.retire(region)

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Keys and addresses of this CPU's values, in order of insertion."""
        for key, regions in list(self.regions.items()):
            if self.regions.get(key) is regions:
                yield key, regions[self.place.world.cpu].address

    def content(self) -> dict[str, str]:
        """All keys, and the values of all CPUs one behind the other, in hex."""
        return {key.hex(): joined(self.place, regions) for key, regions in self.regions.items()}


def presence(flags: int, *, present: bool) -> int:
    """check_flags(): the error number where a flag forbids what is there."""
    if present and flags & ~LOCK == NOEXIST:
        return EEXIST
    if not present and flags & ~LOCK == EXIST:
        return ENOENT
    return 0
