# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every map has: its definition, its address, the memory that its values live in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.bpf.mapdef import MapDef
from harness.sim.memory import Memory, Region
from harness.sim.signals import Fault
from harness.sim.world import World


@dataclass(slots=True)
class Place:
    """Where a map lives."""

    definition: MapDef
    memory: Memory
    # what BPF programs hold as the map's address; no byte of it can be read
    handle: Region
    world: World
    # why what is in the map may differ from what a kernel has: several answers are right
    doubts: dict[str, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in the object."""
        return self.definition.name

    def value(self, key: bytes, data: bytearray) -> Region:
        """A region for one value: running off its end faults."""
        return self.memory.region(f"{self.name}[{key.hex()}]", data)

    def doubt(self, why: str) -> None:
        """Remember that a kernel may answer otherwise from here on."""
        self.doubts[f"{why} of map {self.name}"] = None


def refused(operation: str) -> Callable[..., Any]:
    """A method for an operation that no verifier lets a program call on this kind of map."""

    def refuse(self: Any, *_args: Any) -> Any:
        place = self.place
        raise Fault(f"map {place.name} of type {place.definition.type_name} has no {operation}")

    return refuse
