# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel functions that programs call by name: bpf_throw and its neighbours.

Owns the table of their names, and those that throw, lock or mark sections (kernel/bpf/helpers.c,
kernel/bpf/rqspinlock.c). Iterators are harness.sim.iterators', objects harness.sim.graph's. A name
that is not in the table is unsupported when a call of it is reached.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.sim import arenafuncs, graph, iterators, resources
from harness.sim.alu import M64
from harness.sim.helper import dynptrs
from harness.sim.semantics import PROFILES, Profile
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_EDEADLK = -35 & M64


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


def _res_lock(kind: resources.Kind) -> Callable[..., int]:
    def lock(machine: "Machine", address: int, *flags: int) -> int:
        """One CPU: nobody else ever has it, so only taking it twice can go wrong."""
        if any(machine.resources.find(other, address) for other in resources.RESILIENT):
            return _EDEADLK
        _lock_free(machine, resources.SPIN_LOCK)
        machine.memory.find(address, 4, "lock")
        for saved in flags:
            machine.memory.write(saved, bytes(8))
        machine.resources.acquire(kind, address)
        return 0

    return lock


def _res_unlock(kind: resources.Kind) -> Callable[..., None]:
    def unlock(machine: "Machine", address: int, *_flags: int) -> None:
        newest = machine.resources.newest(*resources.RESILIENT)
        if newest is not None and newest.address != address:
            raise Fault(
                f"{kind.release} cannot be out of order: "
                f"{machine.resources.describe(newest)} is newer"
            )
        machine.resources.release(kind, address)

    return unlock


def _lock_free(machine: "Machine", kind: resources.Kind) -> None:
    held = machine.resources.newest(kind)
    if held is not None:
        raise Fault(f"a lock is held already: {machine.resources.describe(held)}")


# name -> (arguments, function)
_KFUNCS: dict[str, tuple[int, Callable[..., int | None]]] = {
    "bpf_throw": (1, _throw),
    "bpf_rcu_read_lock": (0, _rcu_lock),
    "bpf_rcu_read_unlock": (0, _rcu_unlock),
    "bpf_preempt_disable": (0, _preempt_disable),
    "bpf_preempt_enable": (0, _preempt_enable),
    "bpf_local_irq_save": (1, _irq_save),
    "bpf_local_irq_restore": (1, _irq_restore),
    "bpf_res_spin_lock": (1, _res_lock(resources.RES_SPIN_LOCK)),
    "bpf_res_spin_unlock": (1, _res_unlock(resources.RES_SPIN_LOCK)),
    "bpf_res_spin_lock_irqsave": (2, _res_lock(resources.RES_SPIN_LOCK_IRQ)),
    "bpf_res_spin_unlock_irqrestore": (2, _res_unlock(resources.RES_SPIN_LOCK_IRQ)),
    **iterators.KFUNCS,
    **graph.KFUNCS,
    **dynptrs.KFUNCS,
    **arenafuncs.KFUNCS,
}
# since 6.19 some have a second name, without the arguments that only the verifier fills in
_KFUNCS |= {name.removesuffix("_impl"): entry for name, entry in _KFUNCS.items()}
_LATE = frozenset[str]().union(*(profile.extra_kfuncs for profile in PROFILES.values()))


def exists(name: str, profile: Profile) -> bool:
    """Whether the profile's kernel has it and the simulator models it."""
    return name in _KFUNCS and (name not in _LATE or name in profile.extra_kfuncs)


def arguments(name: str) -> int:
    """How many registers a call looks at, from R1 on."""
    return _KFUNCS[name][0] if name in _KFUNCS else 0


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
        if machine.trace.on and name not in iterators.QUIET:
            shown = f" = {machine.trace.show(result)}" if result is not None else ""
            machine.trace.call(name, given, result, shown)
        return result

    return call
