# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel functions of arenas: pages to have, to give back, to keep free.

Owns their arguments and results at the limits (kernel/bpf/arena.c). A machine has one NUMA node.
The pages themselves are harness.sim.mapkinds.arenas'.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.bpf.sections import program_type
from harness.sim.alu import M32, M64, signed
from harness.sim.mapkinds.arenas import PAGE_BYTES, Arena
from harness.sim.signals import Fault

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_EINVAL, _EBUSY = -22 & M64, -16 & M64
_NODES = (-1, 0)


def _may_sleep(machine: "Machine") -> bool:
    section = machine.frames[0].program.section.lstrip("?")
    return program_type(section) == "syscall" or section.partition("/")[0].endswith(".s")


def _arena(machine: "Machine", address: int, name: str) -> Arena | None:
    """The arena that the first argument is; None for another map. Raises Fault."""
    if not machine.profile.arena_atomic and not _may_sleep(machine):
        raise Fault(f"program must be sleepable to call sleepable kfunc {name}")
    found = machine.map_at(address)
    return found if isinstance(found, Arena) else None


def _alloc(  # as the kernel has them
    machine: "Machine", place: int, address: int, count: int, node: int, flags: int
) -> int:
    """Address in user space of `count` new pages of zeros, 0 where there are none."""
    arena, count = _arena(machine, place, "bpf_arena_alloc_pages"), count & M32
    if arena is None or flags or not count:
        return 0
    if signed(node, 32) not in _NODES or count > arena.count or address % PAGE_BYTES:
        return 0
    if address:
        first: int | None = arena.index(address)
        assert first is not None
        if first > arena.count - count or not arena.is_free(first, count):
            return 0
    elif machine.profile.late_arena:
        first = arena.best_fit(count)
    else:
        first = arena.first_fit(count)
    if first is None:
        return 0
    arena.populate(first, count)
    arena.take(first, count)
    return arena.start + first * PAGE_BYTES


def _free(machine: "Machine", place: int, address: int, count: int) -> None:
    """Give pages back; what is outside of the arena does not matter."""
    arena, count = _arena(machine, place, "bpf_arena_free_pages"), count & M32
    if arena is None or not count or not address:
        return
    full = arena.start & ~M32 | address & M32 & -PAGE_BYTES
    end = min(arena.end, full + count * PAGE_BYTES)
    if full < arena.start or full >= end:
        return
    if not _may_sleep(machine):  # an interrupt and a worker do it later
        arena.place.doubt("pages that a program that cannot sleep gave back")
    count = (end - full) // PAGE_BYTES
    arena.give(arena.index(full), count)
    arena.drop(arena.index(full), count)


def _reserve(machine: "Machine", place: int, address: int, count: int) -> int:
    """Keep free pages from being given out; no page is made."""
    arena, count = _arena(machine, place, "bpf_arena_reserve_pages"), count & M32
    if arena is None:
        return _EINVAL
    if not count or address % PAGE_BYTES:
        return 0
    first = arena.index(address)
    if first + count > arena.count:
        return _EINVAL
    if not arena.is_free(first, count):
        return _EBUSY
    arena.take(first, count)
    return 0


KFUNCS: dict[str, tuple[int, Callable[..., int | None]]] = {
    "bpf_arena_alloc_pages": (5, _alloc),
    "bpf_arena_free_pages": (3, _free),
    "bpf_arena_reserve_pages": (3, _reserve),
}
