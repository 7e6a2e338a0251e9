# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Local storage, kernel pointers in maps, per-CPU variables, the current task.

Sources: kernel/bpf/bpf_{sk,task,cgrp}_storage.c, kernel/bpf/helpers.c, net/core/bpf_sk_storage.c.
"""

from typing import TYPE_CHECKING

from harness.sim.alu import M32
from harness.sim.errnos import EINVAL
from harness.sim.helper import Table
from harness.sim.mapkinds.storages import Storage
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_CREATE = 1
_TASK = "current task"


def _storage(machine: "Machine", address: int) -> Storage:
    used = machine.map_at(address)
    if not isinstance(used, Storage):
        raise Fault(f"map {used.place.name} is no local storage")
    return used


def _get(machine: "Machine", address: int, owner: int, value: int, flags: int) -> int:
    """Address of the owner's value; made on demand, from `value` or zeros; 0 without it."""
    used = _storage(machine, address)
    if not owner or flags & ~_CREATE:
        return 0
    if not flags & _CREATE:
        return used.get(owner >> 32, None)
    size = used.place.definition.value_size
    return used.get(owner >> 32, machine.memory.read(value, size) if value else bytes(size))


def _delete(machine: "Machine", address: int, owner: int) -> int:
    used = _storage(machine, address)
    return used.forget(owner >> 32) if owner else EINVAL


def _cgroup_storage(machine: "Machine", address: int, flags: int) -> int:
    """bpf_get_local_storage(): the one value of the cgroup that runs the program."""
    used = _storage(machine, address)
    if flags:
        raise Fault("bpf_get_local_storage: flags must be 0")
    return used.get(0, bytes(used.place.definition.value_size))


def _current_task(machine: "Machine") -> int:
    """An object that can be an owner of storage; nothing of it can be read."""
    if machine.recorder.task is None:
        region = machine.memory.region(_TASK, bytearray(1))
        region.writable = False

        def load(offset: int, _size: int) -> int:
            raise Unsupported(f"field {offset} of the current task")

        region.load = load
        machine.recorder.task = region
    return machine.recorder.task.address


def _kptr_xchg(machine: "Machine", slot: int, pointer: int) -> int:
    """The pointer that was in the map is the program's now, the new one no longer."""
    memory, objects = machine.memory, machine.objects
    old = memory.load(slot, 8)
    if pointer:
        objects.disown(pointer)
    memory.store(slot, 8, pointer)
    if old:
        objects.own(old)
    return old


def _per_cpu_ptr(machine: "Machine", address: int, cpu: int) -> int:
    """Of an object for each CPU; 0 for a CPU that does not exist."""
    return 0 if cpu & M32 >= machine.world.cpus else _this_cpu_ptr(machine, address)


def _this_cpu_ptr(machine: "Machine", address: int) -> int:
    if not machine.objects.at(address).percpu:
        raise Fault("this is no object for each CPU")
    if machine.world.cpus > 1:
        raise Unsupported("objects for each CPU, with more than one")
    return address


_SAME = "values live as long as the machine"
HELPERS: Table = {
    81: ("bpf_get_local_storage", 2, _cgroup_storage, _SAME),
    107: ("bpf_sk_storage_get", 4, _get, _SAME),
    108: ("bpf_sk_storage_delete", 2, _delete, ""),
    153: ("bpf_per_cpu_ptr", 2, _per_cpu_ptr, "objects of bpf_percpu_obj_new, one CPU"),
    154: ("bpf_this_cpu_ptr", 1, _this_cpu_ptr, "objects of bpf_percpu_obj_new, one CPU"),
    156: ("bpf_task_storage_get", 4, _get, _SAME),
    157: ("bpf_task_storage_delete", 2, _delete, ""),
    158: ("bpf_get_current_task_btf", 0, _current_task, "an owner; no field can be read"),
    194: ("bpf_kptr_xchg", 2, _kptr_xchg, "objects of bpf_obj_new"),
    210: ("bpf_cgrp_storage_get", 4, _get, _SAME),
    211: ("bpf_cgrp_storage_delete", 2, _delete, ""),
}
