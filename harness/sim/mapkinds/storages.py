# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Local storage: a value for each socket, task, inode or cgroup (kernel/bpf/bpf_local_storage.c),
and the older cgroup storage, which has one value for the cgroup that runs the program.
"""

from dataclasses import dataclass, field

from harness.sim.errnos import ENOENT
from harness.sim.mapkinds.place import Place, refused
from harness.sim.memory import Region


@dataclass(slots=True)
class Storage:
    """Values by owner."""

    place: Place
    # region key of the owner -> value
    regions: dict[int, Region] = field(default_factory=dict)
    ordered = False
    has_content = False

    lookup = update = delete = items = content = refused("keys")
    push = pop = peek = refused("push, pop or peek")

    def get(self, owner: int, initial: bytes | None) -> int:
        """Address of the owner's value; made from `initial` if that is not None; or 0."""
        found = self.regions.get(owner)
        if found is None:
            if initial is None:
                return 0
            found = self.place.memory.region(f"{self.place.name} storage", bytearray(initial))
            self.regions[owner] = found
        return found.address

    def forget(self, owner: int) -> int:
        """0 or a negative error number."""
        region = self.regions.pop(owner, None)
        if region is None:
            return ENOENT
        self.place.memory.retire(region)
        return 0
