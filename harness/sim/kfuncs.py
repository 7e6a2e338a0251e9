# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel functions that programs call by name: bpf_throw and its neighbours.

Owns their results (kernel/bpf/helpers.c, kernel/bpf/bpf_iter.c). A name that is not in the table
is unsupported when a call of it is reached.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.sim import resources
from harness.sim.alu import M64, signed
from harness.sim.maps import E2BIG, EINVAL
from harness.sim.semantics import Profile
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import value

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_MAX_LOOPS = 8 << 20


def _throw(machine: "Machine", cookie: int) -> None:
    machine.throw(cookie)


def _rcu_lock(machine: "Machine") -> None:
    held = machine.resources.newest_here(resources.RCU)
    if held is not None and not machine.profile.rcu_nests:
        raise Fault(f"nested rcu read lock: {machine.resources.describe(held)} is open")
    machine.resources.acquire(resources.RCU)


def _rcu_unlock(machine: "Machine") -> None:
    machine.resources.release_here(resources.RCU, "unmatched rcu read unlock")


def _preempt_disable(machine: "Machine") -> None:
    machine.resources.acquire(resources.PREEMPT)


def _preempt_enable(machine: "Machine") -> None:
    machine.resources.release_here(resources.PREEMPT, "unmatched attempt to enable preemption")


def _irq_save(machine: "Machine", flags: int) -> None:
    if machine.resources.find(resources.IRQ, flags) is not None:
        raise Fault("expected uninitialized irq flag as arg#0")
    machine.memory.write(flags, bytes(8))
    machine.resources.acquire(resources.IRQ, flags)


def _irq_restore(machine: "Machine", flags: int) -> None:
    newest = machine.resources.newest_here(resources.IRQ)
    if newest is not None and newest.address != flags:
        raise Fault(
            f"cannot restore irq state out of order: {machine.resources.describe(newest)} is newer"
        )
    machine.resources.release_here(resources.IRQ, "expected an initialized irq flag as arg#0")


def _iterator_new(machine: "Machine", iterator: int, name: str) -> None:
    """Note a new iterator; it counts as one until it is destroyed, also after an error."""
    if machine.resources.find(resources.ITERATOR, iterator) is not None:
        raise Fault(f"expected uninitialized iter_{name} as arg #0")
    machine.resources.acquire(resources.ITERATOR, iterator, name)


def _iterator(machine: "Machine", iterator: int, name: str) -> None:
    """The iterator must have been made, and be of this kind."""
    found = machine.resources.find(resources.ITERATOR, iterator)
    if found is None or found.what != name:
        raise Fault(f"expected an initialized iter_{name} as arg #0")


def _iter_num_new(machine: "Machine", iterator: int, start: int, end: int) -> int:
    first, last = signed(start, 32), signed(end, 32)
    problem = EINVAL if first > last else E2BIG if last - first > _MAX_LOOPS else 0
    state = (0, 0) if problem else (first - 1, last)
    _iterator_new(machine, iterator, "num")
    machine.memory.write(iterator, b"".join(_s32(number) for number in state))
    return problem & M64


def _iter_num_next(machine: "Machine", iterator: int) -> int:
    _iterator(machine, iterator, "num")
    state = machine.memory.read(iterator, 8)
    current, end = (int.from_bytes(part, "little", signed=True) for part in (state[:4], state[4:]))
    following = signed(current + 1, 32)  # wraps, so that INT_MIN can be the first value
    if following >= end:
        machine.memory.write(iterator, bytes(8))
        return 0
    machine.memory.write(iterator, _s32(following))
    return iterator


def _iter_num_destroy(machine: "Machine", iterator: int) -> None:
    _iterator(machine, iterator, "num")
    machine.resources.release(resources.ITERATOR, iterator)
    machine.memory.write(iterator, bytes(8))


def _s32(number: int) -> bytes:
    return (number & 0xFFFF_FFFF).to_bytes(4, "little")


# name -> (arguments, function)
_KFUNCS: dict[str, tuple[int, Callable[..., int | None]]] = {
    "bpf_throw": (1, _throw),
    "bpf_rcu_read_lock": (0, _rcu_lock),
    "bpf_rcu_read_unlock": (0, _rcu_unlock),
    "bpf_preempt_disable": (0, _preempt_disable),
    "bpf_preempt_enable": (0, _preempt_enable),
    "bpf_local_irq_save": (1, _irq_save),
    "bpf_local_irq_restore": (1, _irq_restore),
    "bpf_iter_num_new": (3, _iter_num_new),
    "bpf_iter_num_next": (1, _iter_num_next),
    "bpf_iter_num_destroy": (1, _iter_num_destroy),
}
_LATE = frozenset({"bpf_local_irq_save", "bpf_local_irq_restore"})


def exists(name: str, profile: Profile) -> bool:
    """Whether the profile's kernel has it and the simulator models it."""
    return name in _KFUNCS and (name not in _LATE or name in profile.extra_kfuncs)


def bind(machine: "Machine", name: str) -> Callable[[list[Any]], int | None]:
    """Make a call of `name` that checks and passes its arguments."""
    if not exists(name, machine.profile):

        def unknown(_args: list[Any]) -> int | None:
            raise Unsupported(f"kfunc {name}")

        return unknown
    count, function = _KFUNCS[name]

    def call(args: list[Any]) -> int | None:
        given = args[:count]
        if None in given:
            raise Fault(f"{name}: R{given.index(None) + 1} is not initialised")
        result = function(machine, *given)
        if machine.trace.on and name != "bpf_iter_num_next":
            shown = f" = {value(result)}" if result is not None else ""
            machine.trace.call(name, given, result, shown)
        return result

    return call
