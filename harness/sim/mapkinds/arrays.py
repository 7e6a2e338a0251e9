# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Array and per-CPU array (kernel/bpf/arraymap.c): keys are indexes, values are always there."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.sim.errnos import E2BIG, EEXIST, EINVAL
from harness.sim.mapkinds.flags import EXIST, LOCK, NOEXIST
from harness.sim.mapkinds.place import Place, refused
from harness.sim.memory import Region


@dataclass(slots=True)
class Array:
    """An array. A value takes memory when it is first looked up."""

    place: Place
    regions: dict[bytes, Region] = field(default_factory=dict)
    ordered = True
    has_content = True

    push = pop = peek = refused("push, pop or peek")

    def lookup(self, key: bytes) -> int:
        """Address of the value, or 0."""
        found = self.regions.get(key)
        return found.address if found is not None else self._first(key)

    def _first(self, key: bytes) -> int:
        place = self.place
        if int.from_bytes(key[:4], "little") >= place.definition.max_entries:
            return 0
        made = place.value(key, bytes(place.definition.value_size))
        self.regions[key] = made
        return made.address

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0 or a negative error number."""
        problem = _refusal(self.place, key, flags)
        if not problem and self.lookup(key):
            self.place.put(self.regions[key], value)
        return problem

    def delete(self, _key: bytes) -> int:
        """Nothing can be deleted."""
        return EINVAL

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Keys and addresses of values, by index."""
        return ((key, self.lookup(key)) for key in _indexes(self.place))

    def content(self) -> dict[str, str]:
        """All keys and values in hex; makes no value that was never looked up."""
        zeros = "00" * self.place.definition.value_size
        stored = {key: self.place.shown(region) for key, region in self.regions.items()}
        return {key.hex(): stored.get(key, zeros) for key in _indexes(self.place)}


@dataclass(slots=True)
class PerCpuArray:
    """An array with a value for each CPU."""

    place: Place
    # key -> region of each CPU
    regions: dict[bytes, list[Region]] = field(default_factory=dict)
    ordered = True
    has_content = True

    push = pop = peek = refused("push, pop or peek")

    def lookup(self, key: bytes) -> int:
        """Address of this CPU's value, or 0."""
        return self.lookup_on(key, self.place.world.cpu)

    def lookup_on(self, key: bytes, cpu: int) -> int:
        """Address of the value of a CPU that exists, or 0."""
        found = self.regions.get(key)
        if found is None:
            place = self.place
            if int.from_bytes(key[:4], "little") >= place.definition.max_entries:
                return 0
            found = per_cpu(place, key)
            self.regions[key] = found
        return found[cpu].address

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0 or a negative error number; writes the value of this CPU."""
        problem = _refusal(self.place, key, flags)
        if not problem and self.lookup(key):
            self.place.put(self.regions[key][self.place.world.cpu], value)
        return problem

    def delete(self, _key: bytes) -> int:
        """Nothing can be deleted."""
        return EINVAL

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Keys and addresses of this CPU's values, by index."""
        return ((key, self.lookup(key)) for key in _indexes(self.place))

    def content(self) -> dict[str, str]:
        """All keys, and the values of all CPUs one behind the other, in hex."""
        zeros = "00" * (self.place.definition.value_size * self.place.world.cpus)
        stored = {key: joined(self.place, regions) for key, regions in self.regions.items()}
        return {key.hex(): stored.get(key, zeros) for key in _indexes(self.place)}


def per_cpu(place: Place, key: bytes) -> list[Region]:
    """Zeroed values, one for each CPU."""
    size = place.definition.value_size
    return [place.value(key, bytes(size)) for _ in range(place.world.cpus)]


def joined(place: Place, regions: list[Region]) -> str:
    """Values of all CPUs in hex."""
    return "".join(map(place.shown, regions))


def _indexes(place: Place) -> Iterator[bytes]:
    return (i.to_bytes(4, "little") for i in range(place.definition.max_entries))


def _refusal(place: Place, key: bytes, flags: int) -> int:
    """array_map_update_elem(): the error number, 0 where the value can be written."""
    if flags & ~LOCK > EXIST:
        return EINVAL
    if int.from_bytes(key[:4], "little") >= place.definition.max_entries:
        return E2BIG
    if flags & NOEXIST:
        return EEXIST
    return EINVAL if flags & LOCK and not place.has_lock else 0
