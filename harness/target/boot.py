# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From a kernel and settings to a guest that is on its way up, or one that was warm already.

Light to import: `bpfthrow run` starts its guest first and reads everything else while it boots.
"""

import fcntl
import re
from dataclasses import dataclass

from harness import accel, kernels
from harness.config import Settings
from harness.kernels import Kernel
from harness.target import guests, vm


@dataclass(frozen=True, slots=True)
class Begun:
    """A kernel whose guest has been started."""

    kernel: Kernel
    guest: vm.Guest


def machine_for(kernel: Kernel, settings: Settings) -> vm.Machine:
    """The guest that runs `kernel` under these settings; builds the guest root if need be."""
    root = kernels.ensure_root()
    chosen = settings.accelerator if settings.accelerator != "auto" else accel.probe().name
    return vm.Machine(
        name=kernel.name,
        release=kernel.release,
        kernel=kernel.image,
        modules=kernel.modules,
        root=root.image,
        root_hash=root.hash,
        cpus=settings.cpus,
        memory_mib=settings.memory,
        accelerator=chosen,
    )


def begin(machine: vm.Machine, settings: Settings) -> vm.Guest:
    """A warm guest that nobody uses, or a new one; does not wait for it."""
    return _warm(machine) or vm.start(machine, detached=settings.keep_vm, name=label(machine.name))


def label(name: str) -> str:
    """`name` as a part of a directory name."""
    return re.sub(r"[^\w.-]", "_", name)[:24]


def _warm(machine: vm.Machine) -> vm.Guest | None:
    for entry in guests.detached():
        if entry.recipe == vm.recipe(machine) and entry.alive:
            try:
                lock = (entry.run_dir / "lock").open("w")
            except FileNotFoundError:
                continue  # it was ended meanwhile
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            return vm.Guest(machine, entry.run_dir, None, boot_s=entry.boot_s, lock=lock)
    return None
