# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps that hold programs, maps, or targets of redirects.

Sources: kernel/bpf/{arraymap,hashtab,map_in_map,devmap,cpumap}.c, net/xdp/xskmap.c. Programs never
write them: what is in them comes from the object (initialisers) or from whoever owns the machine.
"""

from dataclasses import dataclass, field

from harness.bpf.mapdef import MapType
from harness.sim.mapkinds.place import Place, refused
from harness.sim.memory import Region
from harness.sim.signals import Unsupported

_INDEXED = frozenset({MapType.ARRAY_OF_MAPS, MapType.DEVMAP, MapType.CPUMAP, MapType.XSKMAP})


def _refusing_index(place: Place, index: int) -> bool:
    """Whether an array has no such slot."""
    return place.definition.type in _INDEXED and index >= place.definition.max_entries


@dataclass(slots=True)
class Programs:
    """A program array."""

    place: Place
    # index -> name of the program
    programs: dict[int, str] = field(default_factory=dict)
    ordered = True
    has_content = False

    lookup = update = delete = items = content = refused("keys for programs")
    push = pop = peek = refused("push, pop or peek")


@dataclass(slots=True)
class Maps:
    """An array or hash of maps: looking up gives the inner map's address."""

    place: Place
    # key -> address of a map
    inner: dict[bytes, int] = field(default_factory=dict)
    ordered = True
    has_content = False

    update = delete = items = content = refused("writes or walks by programs")
    push = pop = peek = refused("push, pop or peek")

    def put(self, key: bytes, address: int) -> None:
        """Put a map there, as its owner does."""
        self.inner[key] = address

    def lookup(self, key: bytes) -> int:
        """Address of the inner map, or 0."""
        return self.inner.get(key, 0)


@dataclass(slots=True)
class Targets:
    """Where redirects go: devmap, devmap_hash, cpumap, xskmap."""

    place: Place
    # index or key -> the value: struct bpf_devmap_val, bpf_cpumap_val, or a socket's number
    targets: dict[int, Region] = field(default_factory=dict)
    ordered = True
    has_content = False

    update = delete = items = content = refused("writes or walks by programs")
    push = pop = peek = refused("push, pop or peek")

    def put(self, index: int, value: bytes) -> None:
        """Put a target there, as its owner does: the bytes that bpf(2) would be given."""
        if _refusing_index(self.place, index):
            raise Unsupported(f"slot {index} of map {self.place.name}")
        padded = value.ljust(self.place.definition.value_size, b"\0")
        region = self.place.value(index.to_bytes(4, "little"), padded)
        region.writable = False
        self.targets[index] = region

    def lookup(self, key: bytes) -> int:
        """Address of the target's value, or 0. What a socket of an xskmap is cannot be read."""
        found = self.targets.get(int.from_bytes(key[:4], "little"))
        return found.address if found is not None else 0
