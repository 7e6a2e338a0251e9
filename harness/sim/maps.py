# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of map types, and what an observation holds of them.

Owns which class models which type; the classes are in harness.sim.mapkinds. A type that is not in
the table is unsupported when a program reaches it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from harness.bpf.mapdef import MapDef, MapType
from harness.sim.errnos import E2BIG as E2BIG  # noqa: PLC0414  # for those who know it from here
from harness.sim.errnos import EINVAL as EINVAL  # noqa: PLC0414
from harness.sim.mapkinds.arenas import Arena
from harness.sim.mapkinds.arrays import Array, PerCpuArray
from harness.sim.mapkinds.hashes import Hash, LruHash, PerCpuHash
from harness.sim.mapkinds.place import Place, refused
from harness.sim.mapkinds.queues import Bloom, Queue
from harness.sim.mapkinds.references import Maps, Programs, Targets
from harness.sim.mapkinds.rings import Ring
from harness.sim.mapkinds.storages import Storage
from harness.sim.mapkinds.tries import Trie
from harness.sim.memory import Memory, Region
from harness.sim.signals import Unsupported
from harness.sim.world import World


class Unknown:
    """A map of a type that is not modelled: it can only be loaded."""

    ordered = True
    has_content = False
    lookup = update = delete = items = content = refused("operations")
    push = pop = peek = refused("operations")

    def __init__(self, place: Place) -> None:
        self.place = place


# of an array in an observation
_MAX_LISTED = 1 << 16
_MAX_LISTED_BYTES = 16 << 20
# more than any kernel's struct of a map has
_STRUCT_BYTES = 4096

# any class of harness.sim.mapkinds
Map = Any

# type -> (class, what is worth knowing about it)
KINDS: dict[MapType, tuple[Callable[[Place], Map], str]] = {
    MapType.HASH: (Hash, "walked in order of insertion"),
    MapType.ARRAY: (Array, ""),
    MapType.PROG_ARRAY: (Programs, "filled by the object's initialiser"),
    MapType.PERCPU_HASH: (PerCpuHash, "a value for each CPU of the world; programs run on one"),
    MapType.PERCPU_ARRAY: (PerCpuArray, "a value for each CPU of the world; programs run on one"),
    MapType.LRU_HASH: (LruHash, "least recently used goes first; in doubt from then on"),
    MapType.LRU_PERCPU_HASH: (PerCpuHash, "least recently used goes first; in doubt from then on"),
    MapType.LPM_TRIE: (Trie, ""),
    MapType.ARRAY_OF_MAPS: (Maps, "filled by the object's initialiser or put()"),
    MapType.HASH_OF_MAPS: (Maps, "filled by the object's initialiser or put()"),
    MapType.DEVMAP: (Targets, "filled by put(); redirects are recorded"),
    MapType.DEVMAP_HASH: (Targets, "filled by put(); redirects are recorded"),
    MapType.CPUMAP: (Targets, "filled by put(); redirects are recorded"),
    MapType.XSKMAP: (Targets, "filled by put(); redirects are recorded"),
    MapType.QUEUE: (Queue, ""),
    MapType.STACK: (Queue, ""),
    MapType.SK_STORAGE: (Storage, "for the socket of the packet"),
    MapType.TASK_STORAGE: (Storage, "for the current task"),
    MapType.CGRP_STORAGE: (Storage, "bpf_cgrp_storage_delete and _get, for a cgroup at hand"),
    MapType.CGROUP_STORAGE: (Storage, "one value"),
    MapType.PERCPU_CGROUP_STORAGE: (Storage, "one value, of this CPU"),
    MapType.RINGBUF: (Ring, "positions and headers as mapped; consume() reads records"),
    MapType.BLOOM_FILTER: (Bloom, "no false positives; a miss in a filter in use is in doubt"),
    MapType.PERF_EVENT_ARRAY: (Targets, "bpf_perf_event_output is recorded"),
    MapType.ARENA: (Arena, "32-bit pointers, sparse pages; without map_extra: somewhere"),
}


def _handle(name: str, memory: Memory) -> Region:
    """What a program holds as the map's address: of the kernel's struct bpf_map.

    A verifier lets it be read, as far as the struct goes (check_ptr_to_map_access()), and not be
    written.
    """
    made = memory.region(f"map {name}", bytearray())
    made.high, made.writable = _STRUCT_BYTES, False

    def load(offset: int, size: int) -> int:
        raise Unsupported(
            f"load of {size} bytes at offset {offset} of the kernel's own struct of map {name}"
        )

    made.load = load
    return made


def create(
    definition: MapDef,
    memory: Memory,
    world: World | None = None,
    special: tuple[tuple[str, int, int], ...] = (),
) -> Map:
    """Make an empty map with its initial programs. Unknown types fault when they are used.

    `special`: members of the value that are the kernel's, from harness.bpf.special.spans().
    """
    handle = _handle(definition.name, memory)
    place = Place(definition, memory, handle, world or World(), special)
    made = KINDS.get(definition.type, (Unknown, ""))[0](place)  # type: ignore[call-overload]
    if definition.type == MapType.PROG_ARRAY:
        made.programs.update(definition.values)
    return made


def fill(made: Iterable[Map]) -> dict[int, Map]:
    """Put inner maps into the maps of maps that name them; those that are modelled by address."""
    every = list(made)
    named = {used.place.name: used for used in every}
    for outer in every:
        if isinstance(outer, Maps):
            for key, inner in outer.place.definition.values:
                if inner in named:
                    outer.put(_key(outer, key), named[inner].place.handle.address)
    return {u.place.handle.address: u for u in every if not isinstance(u, Unknown)}


def _key(outer: Maps, index: int) -> bytes:
    return index.to_bytes(outer.place.definition.key_size or 4, "little")


def check(made: Iterable[Map], address: int) -> None:
    """Raises Unsupported where a map of a type that is not modelled has this address."""
    for used in made:
        if used.place.handle.address == address:
            definition = used.place.definition
            raise Unsupported(f"map type {definition.type_name} of map {definition.name}")


def dump(
    maps: dict[str, Map],
    sections: dict[str, Region],
    decode: Callable[[str, bytes], dict[str, str]],
) -> dict[str, dict[str, str]]:
    """Content of all maps and writable sections of globals, as an Observation holds it.

    Left out, because they have no keys that both sides could name: maps of programs, maps and
    targets, queues, stacks, bloom filters, ring buffers, storages and unknown types. Arrays that
    are too big to list are left out too.
    """
    content = {
        used.place.name: used.content()
        for used in maps.values()
        if used.has_content and not (used.ordered and _is_big(used.place.definition))
    }
    for name, region in sections.items():
        if region.writable:
            content[name] = decode(name, bytes(region.data))
    return content


def _is_big(definition: MapDef) -> bool:
    """Whether an array has more elements or bytes than anybody would read after a run."""
    size = definition.max_entries * definition.value_size
    return definition.max_entries > _MAX_LISTED or size > _MAX_LISTED_BYTES


def doubts(maps: dict[str, Map]) -> list[str]:
    """Why a kernel may rightly have something else in these maps."""
    return [why for used in maps.values() for why in used.place.doubts]
