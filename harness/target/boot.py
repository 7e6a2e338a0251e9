# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From a kernel and settings to a guest that is on its way up, or one that was warm already.

Light to import: `bpfthrow run` starts its guest first and reads everything else while it boots.
"""

import fcntl
import re
from dataclasses import dataclass
from pathlib import Path

from harness import accel, kernels, tools
from harness.config import Settings
from harness.errors import MachineLostError
from harness.kernels import Kernel
from harness.paths import require_space, telling_no_space
from harness.target import guests, saved, vm
from harness.target.archive import agent_archive
from harness.target.machine import Machine, recipe
from harness.target.rootimage import require_whole

_PURPOSE = "a guest's keys and console"
_RUN_DIR_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Begun:
    """A kernel whose guest has been started."""

    kernel: Kernel
    guest: vm.Guest


def machine_for(kernel: Kernel, settings: Settings) -> Machine:
    """The guest that runs `kernel` under these settings; builds the guest root if need be.

    MachineLostError where that is damaged.
    """
    root = kernels.ensure_root()
    require_whole(root.image)
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
    """A guest of our own: restored where one was saved, else booted; does not wait for it.

    MachineLostError where it cannot be started, for lack of space above all.
    """
    name = label(machine.name)
    state = None if cold else saved.find(machine)
    place = guests.runtime_dir()
    try:
        with telling_no_space(_PURPOSE, place):
            # first, because the keeper of a guest cannot say it
            require_space(_RUN_DIR_BYTES, _PURPOSE, place)
            restored = state and _restored(machine, state, detached=detached, name=name)
            return restored or vm.start(machine, detached=detached, name=name)
    except OSError as error:
        message = f"no guest of {machine.release} can be started: {error}"
        raise MachineLostError(message, fix="bpfthrow doctor") from error


def _restored(
    machine: Machine, state: saved.Saved, *, detached: bool, name: str
) -> vm.Guest | None:
    # twice, because a guest whose keeper or QEMU was killed says nothing against its state
    for last in (False, True):
        try:
            return vm.restore(machine, state, detached=detached, name=name)
        except saved.StateError as error:
            if last or error.refused:
                give_up(state, str(error))
                break
        except OSError as error:
            if not _missing_in(state, error):
                raise
            give_up(state, str(error))
            break
    return None


def _missing_in(state: saved.Saved, error: OSError) -> bool:
    # whatever else the system refuses is about the guest's own directory, where it can be anything
    missing = isinstance(error, FileNotFoundError) and error.filename is not None
    return missing and Path(error.filename).is_relative_to(state.place)


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
