# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers on the elements of maps (kernel/bpf/helpers.c); the maps are in harness.sim.mapkinds."""

from typing import TYPE_CHECKING

from harness.bpf.mapdef import MapType
from harness.sim.alu import M32
from harness.sim.errnos import EINVAL
from harness.sim.helper import Table
from harness.sim.mapkinds.arrays import PerCpuArray
from harness.sim.mapkinds.hashes import PerCpuHash
from harness.sim.signals import Fault

if TYPE_CHECKING:
    from harness.sim.machine import Machine


def _lookup(machine: "Machine", address: int, key: int) -> int:
    used = machine.map_at(address)
    found: int = used.lookup(machine.memory.read(key, used.place.key_size))
    return found


def _update(machine: "Machine", address: int, key: int, data: int, flags: int) -> int:
    used, read = machine.map_at(address), machine.memory.read
    place = used.place
    result: int = used.update(read(key, place.key_size), read(data, place.value_size), flags)
    return result


def _delete(machine: "Machine", address: int, key: int) -> int:
    used = machine.map_at(address)
    result: int = used.delete(machine.memory.read(key, used.place.key_size))
    return result


def _lookup_percpu(machine: "Machine", address: int, key: int, cpu: int) -> int:
    """bpf_map_lookup_percpu_elem(): 0 for a CPU that does not exist."""
    used = machine.map_at(address)
    if not isinstance(used, PerCpuArray | PerCpuHash):
        raise Fault(f"map {used.place.name} has no values for each CPU")
    if cpu & M32 >= machine.world.cpus:
        return 0
    return used.lookup_on(machine.memory.read(key, used.place.key_size), cpu & M32)


def _push(machine: "Machine", address: int, data: int, flags: int) -> int:
    used = machine.map_at(address)
    result: int = used.push(machine.memory.read(data, used.place.value_size), flags)
    return result


def _pop(machine: "Machine", address: int, target: int) -> int:
    result, data = machine.map_at(address).pop()
    if data is not None:
        machine.memory.write(target, data)
    return int(result)


def _peek(machine: "Machine", address: int, target: int) -> int:
    """A queue writes to `target`, a bloom filter looks for what is there."""
    used = machine.map_at(address)
    definition = used.place.definition
    wanted = b""
    if definition.type == MapType.BLOOM_FILTER:
        wanted = machine.memory.read(target, definition.value_size)
    result, data = used.peek(wanted)
    if data is not None:
        machine.memory.write(target, data)
    return int(result)


def _for_each(machine: "Machine", address: int, callback: int, context: int, flags: int) -> int:
    """Elements in the simulator's order; where the kernel has none, an early end is in doubt."""
    used = machine.map_at(address)
    if flags:
        return EINVAL
    count = 0
    for key, value in used.items():
        count += 1
        copy = machine.memory.region(f"key of {used.place.name}", bytearray(key))
        stop = machine.callback(callback, [address, copy.address, value, context])
        machine.memory.release(copy)
        if stop:
            if not used.ordered and len(used.regions) > 1:
                used.place.doubt("a walk that ended early, through the unordered elements,")
            break
    return count


HELPERS: Table = {
    1: ("bpf_map_lookup_elem", 2, _lookup, ""),
    2: ("bpf_map_update_elem", 4, _update, ""),
    3: ("bpf_map_delete_elem", 2, _delete, ""),
    87: ("bpf_map_push_elem", 3, _push, ""),
    88: ("bpf_map_pop_elem", 2, _pop, ""),
    89: ("bpf_map_peek_elem", 2, _peek, ""),
    164: ("bpf_for_each_map_elem", 4, _for_each, "in order of insertion where there is none"),
    195: ("bpf_map_lookup_percpu_elem", 3, _lookup_percpu, ""),
}
