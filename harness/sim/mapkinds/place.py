# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every map has: its definition, its address, the memory that its values live in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.bpf.mapdef import MapDef
from harness.sim.memory import Memory, Region
from harness.sim.signals import Fault, Unsupported
from harness.sim.world import World


@dataclass(slots=True)
class Place:
    """Where a map lives."""

    definition: MapDef
    memory: Memory
    # what BPF programs hold as the map's address
    handle: Region
    world: World
    # members of the value that are the kernel's: kind, offset, bytes
    special: tuple[tuple[str, int, int], ...] = ()
    # why what is in the map may differ from what a kernel has: several answers are right
    doubts: dict[str, None] = field(default_factory=dict)

    # of the definition: read at every call of a helper
    key_size: int = field(init=False)
    value_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.key_size, self.value_size = self.definition.key_size, self.definition.value_size

    @property
    def name(self) -> str:
        """Name in the object."""
        return self.definition.name

    @property
    def has_lock(self) -> bool:
        """Whether BPF_F_LOCK may be given."""
        return any(kind == "bpf_spin_lock" for kind, _, _ in self.special)

    def value(self, key: bytes, data: bytes) -> Region:
        """A region for one new value: running off its end faults."""
        made = bytearray(data)
        for _, start, size in self.special:
            made[start : start + size] = bytes(size)
        return self.memory.region(f"{self.name}[{key.hex()}]", made)

    def put(self, region: Region, data: bytes) -> None:
        """copy_map_value(): write a value that is there; the kernel's members stay."""
        if not self.special:
            region.data[:] = data
            return
        kept = bytes(region.data)
        if any(kind == "kptr" and any(kept[at : at + size]) for kind, at, size in self.special):
            raise Unsupported(f"update of a value of map {self.name} that holds a pointer")
        region.data[:] = data
        for _, start, size in self.special:
            region.data[start : start + size] = kept[start : start + size]

    def shown(self, region: Region) -> str:
        """A value in hex as bpf(2) gives it: zeros for the kernel's members."""
        if not self.special:
            return region.data.hex()
        data = bytearray(region.data)
        for _, start, size in self.special:
            data[start : start + size] = bytes(size)
        return data.hex()

    def doubt(self, why: str) -> None:
        """Remember that a kernel may answer otherwise from here on."""
        self.doubts[f"{why} of map {self.name}"] = None


def refused(operation: str) -> Callable[..., Any]:
    """A method for an operation that no verifier lets a program call on this kind of map."""

    def refuse(self: Any, *_args: Any) -> Any:
        place = self.place
        raise Fault(f"map {place.name} of type {place.definition.type_name} has no {operation}")

    return refuse
