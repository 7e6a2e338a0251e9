# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From a kernel and settings to a guest that is on its way up, or one that was warm already.

Light to import: `bpfthrow run` starts its guest first and reads everything else while it boots.
"""

import fcntl
import re
from dataclasses import dataclass

from harness import accel, kernels, tools
from harness.config import Settings
from harness.kernels import Kernel
from harness.target import guests, saved, vm
from harness.target.archive import agent_archive
from harness.target.machine import Machine, recipe


@dataclass(frozen=True, slots=True)
class Begun:
    """A kernel whose guest has been started."""

    kernel: Kernel
    guest: vm.Guest


def machine_for(kernel: Kernel, settings: Settings) -> Machine:
    """The guest that runs `kernel` under these settings; builds the guest root if need be."""
    root = kernels.ensure_root()
    chosen = settings.accelerator if settings.accelerator != "auto" else accel.probe().name
    return Machine(
        name=kernel.name,
        release=kernel.release,
        kernel=kernel.image,
        modules=kernel.modules,
        root=root.image,
        root_hash=root.hash,
        cpus=settings.cpus,
        memory_mib=settings.memory,
        accelerator=chosen,
        agent=agent_archive(root.image, root.hash),
    )


def begin(machine: Machine, settings: Settings) -> vm.Guest:
    """A warm guest that nobody uses, a restored one, or a new one; does not wait for it."""
    warm = _warm(machine)
    return warm or new(machine, detached=settings.keep_vm, cold=settings.cold)


def new(machine: Machine, *, detached: bool, cold: bool = False) -> vm.Guest:
    """A guest of our own: restored where one was saved, else booted; does not wait for it."""
    name = label(machine.name)
    state = None if cold else saved.find(machine)
    restored = state and _restored(machine, state, detached=detached, name=name)
    if restored:
        return restored
    return vm.start(machine, detached=detached, name=name)


def _restored(
    machine: Machine, state: saved.Saved, *, detached: bool, name: str
) -> vm.Guest | None:
    # twice, because a guest whose keeper or QEMU was killed says nothing against its state
    for last in (False, True):
        try:
            return vm.restore(machine, state, detached=detached, name=name)
        except (saved.StateError, OSError) as error:
            if last or not isinstance(error, saved.StateError) or error.refused:
                give_up(state, str(error))
                break
    return None


def give_up(state: saved.Saved, reason: str) -> None:
    """A saved guest that cannot be restored is removed, and said to be."""
    tools.say(f"the saved guest {state.place.name} cannot be restored ({reason}): booting anew")
    saved.forget(state)


def label(name: str) -> str:
    """`name` as a part of a directory name."""
    return re.sub(r"[^\w.-]", "_", name)[:24]


def _warm(machine: Machine) -> vm.Guest | None:
    for entry in guests.detached():
        if entry.recipe == recipe(machine) and entry.alive:
            try:
                lock = (entry.run_dir / "lock").open("w")
            except FileNotFoundError:
                continue  # it was ended meanwhile
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            warm = vm.Guest(machine, entry.run_dir, None, boot_s=entry.boot_s, lock=lock)
            warm.prepared = entry.prepared
            return warm
    return None
