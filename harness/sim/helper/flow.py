# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers that decide what runs: loops, tail calls, spin locks, timers (kernel/bpf/helpers.c).

A timer never fires here: setting it up and starting it are checked and recorded.
"""

from typing import TYPE_CHECKING

from harness.bpf.mapdef import MapType
from harness.sim import resources
from harness.sim.alu import M32
from harness.sim.errnos import E2BIG, EBUSY, EINVAL
from harness.sim.helper import Table
from harness.sim.signals import Fault

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_MAX_LOOPS = 8 << 20
_CLOCKS = frozenset({0, 1, 7})  # CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME
_START_FLAGS = 3  # BPF_F_TIMER_ABS | BPF_F_TIMER_CPU_PIN
_TIMER_BYTES = 16


def _loop(machine: "Machine", times: int, callback: int, context: int, flags: int) -> int:
    if flags:
        return EINVAL
    if times & M32 > _MAX_LOOPS:
        return E2BIG
    run = machine.callback
    for index in range(times & M32):
        if run(callback, [index, context]):
            return index + 1
    return times & M32


def _tail_call(machine: "Machine", context: int, address: int, index: int) -> None:
    used = machine.map_at(address)
    if used.place.definition.type != MapType.PROG_ARRAY:
        raise Fault(f"map {used.place.name} is no program array")
    machine.tail_call(context, used.programs.get(index & M32))


def _spin_lock(machine: "Machine", lock: int) -> int:
    held = machine.resources.newest(*resources.LOCKS)
    if held is not None:
        raise Fault(f"a lock is held already: {machine.resources.describe(held)}")
    machine.memory.find(lock, 4, "lock")
    machine.resources.acquire(resources.SPIN_LOCK, lock)
    return 0


def _spin_unlock(machine: "Machine", lock: int) -> int:
    machine.resources.release(resources.SPIN_LOCK, lock)
    return 0


def _timer_init(machine: "Machine", timer: int, address: int, flags: int) -> int:
    """The kernel's own pointer goes there; whoever reads the map sees zeros in its place."""
    machine.map_at(address)
    if flags not in _CLOCKS:
        return EINVAL
    if _initialised(machine, timer):
        return EBUSY
    machine.recorder.timers[timer] = 0
    return 0


def _initialised(machine: "Machine", timer: int) -> bool:
    machine.memory.find(timer, _TIMER_BYTES, "timer")
    return timer in machine.recorder.timers


def _timer_set_callback(machine: "Machine", timer: int, callback: int) -> int:
    if not _initialised(machine, timer):
        return EINVAL
    machine.recorder.timers[timer] = callback
    return 0


def _timer_start(machine: "Machine", timer: int, after_ns: int, flags: int) -> int:
    if (
        flags & ~_START_FLAGS
        or not _initialised(machine, timer)
        or not machine.recorder.timers[timer]
    ):
        return EINVAL
    machine.recorder.add("timer_start", timer=timer, after_ns=after_ns, flags=flags)
    machine.recorder.armed.add(timer)
    return 0


def _timer_cancel(machine: "Machine", timer: int) -> int:
    """1 where it was going to fire."""
    if not _initialised(machine, timer):
        return EINVAL
    machine.recorder.timers[timer] = 0
    machine.recorder.add("timer_cancel", timer=timer)
    was_armed = timer in machine.recorder.armed
    machine.recorder.armed.discard(timer)
    return int(was_armed)


_NEVER = "checked and recorded; never fires"
HELPERS: Table = {
    12: ("bpf_tail_call", 3, _tail_call, ""),
    93: ("bpf_spin_lock", 1, _spin_lock, ""),
    94: ("bpf_spin_unlock", 1, _spin_unlock, ""),
    169: ("bpf_timer_init", 3, _timer_init, _NEVER),
    170: ("bpf_timer_set_callback", 2, _timer_set_callback, _NEVER),
    171: ("bpf_timer_start", 3, _timer_start, _NEVER),
    172: ("bpf_timer_cancel", 1, _timer_cancel, _NEVER),
    181: ("bpf_loop", 4, _loop, ""),
}
