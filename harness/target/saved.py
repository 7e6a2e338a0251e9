# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Saved guests: booted once, with the agent listening, and restored for each run.

Owns their place in the cache: what a state belongs to, that it is complete or absent, and how many
are kept. A state holds its guest's memory and keys: private files in a private directory.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import tools
from harness.errors import MachineLostError, WorldError
from harness.paths import LEFT_BYTES, cache_dir, locked, remove, replace_file, require_space, staged
from harness.target.guests import BOOT_LOG, CONSOLE
from harness.target.machine import Machine, recipe
from harness.target.opening import Opening
from harness.target.virtme import virtme_argv

STATE = "state"
_NOTE = "saved.json"
_HELLO = "hello.json"
_KEYS = ("user_key", "host_key")
# stands for the run directory in saved arguments
_RUN_DIR = "@RUN_DIR@"
# of one kernel: two checkouts that take turns, each with an agent of its own
_KEPT = 2


class StateError(MachineLostError):
    """A saved guest that was not restored."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        # QEMU said so: the state is of no use. Otherwise something else may have been in the way
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Saved:
    """A guest that can be restored."""

    place: Path
    # QEMU's, with a placeholder for the run directory
    argv: tuple[str, ...]
    opening: Opening
    # of the first boot: deadlines are scaled by it
    boot_s: float

    @property
    def state(self) -> Path:
        """QEMU's migration stream."""
        return self.place / STATE

    def argv_in(self, run_dir: Path) -> list[str]:
        """QEMU with its arguments, waiting for a state."""
        argv = [word.replace(_RUN_DIR, str(run_dir)) for word in self.argv]
        return [tools.need("qemu-system-x86_64"), *argv, "-incoming", "defer"]

    def furnish(self, run_dir: Path) -> None:
        """Put what a restored guest needs into its run directory. OSError where it is gone."""
        for name in (*_KEYS, BOOT_LOG):
            shutil.copy(self.place / name, run_dir / name)
        # read at the first boot, needed by QEMU's command line for ever
        (run_dir / "initramfs").write_bytes(b"\0")
        (run_dir / STATE).symlink_to(self.state)

    def hello(self) -> dict[str, Any] | None:
        """What the agent in it says of itself and the kernel; None where nobody asked yet."""
        try:
            answer: dict[str, Any] = json.loads((self.place / _HELLO).read_text())
        except (OSError, ValueError):
            return None
        return answer

    def keep_hello(self, answer: dict[str, Any]) -> None:
        """Keep what the agent said: it says the same each time the guest is restored."""
        with suppress(OSError):  # the state was removed, or the disk is full: it is asked again
            # two runs may write it at once, the same words
            replace_file(self.place / _HELLO, json.dumps(answer).encode())


def _place(machine: Machine) -> Path:
    qemu = Path(tools.need("qemu-system-x86_64"))
    info = qemu.stat()
    # a state fits the QEMU that wrote it, its devices and arguments; not the text of virtme.py,
    # which may have been changed under a running process
    made_by = [virtme_argv(machine, Path(_RUN_DIR)), str(qemu), info.st_mtime_ns]
    text = json.dumps([recipe(machine), made_by, info.st_size])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return saved_dir() / f"{machine.release}-{key}"


def saved_dir() -> Path:
    """Where saved guests lie."""
    return cache_dir() / "guests"


def find(machine: Machine) -> Saved | None:
    """The saved guest for this machine, if there is one."""
    place = _place(machine)
    try:
        note = json.loads((place / _NOTE).read_text())
        (place / BOOT_LOG).stat()  # not there in states of earlier versions
        os.utime(place)  # who was used last is kept
        opening = Opening(bytes.fromhex(note["heard"]), note["said"].encode())
        return Saved(place, tuple(note["argv"]), opening, note["boot_s"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent, or not ours: it is written anew


def forget(saved: Saved) -> None:
    """Remove a saved guest that cannot be restored."""
    with locked("guests"):
        remove(saved.place)


def write(
    machine: Machine,
    run_dir: Path,
    opening: Opening,
    boot_s: float,
    dump: Callable[[Path], None],
) -> None:
    """Save the guest in `run_dir`; `dump` writes its state to a path that needs no quoting.

    BpfthrowError when that fails or there is no space; nothing is left of it then.
    """
    require_space(machine.memory_mib << 20, "a saved guest")
    place = _place(machine)
    link = run_dir / STATE
    with locked("guests"), staged(place) as staging:
        staging.chmod(0o700)
        link.symlink_to(staging / STATE)
        try:
            dump(link)
        except WorldError as error:
            # QEMU only knows that its pipe broke
            if shutil.disk_usage(staging).free < LEFT_BYTES:
                raise WorldError(f"no space left in {saved_dir()}") from error
            raise
        finally:
            link.unlink()
        (staging / STATE).chmod(0o600)
        for name in _KEYS:
            shutil.copy(run_dir / name, staging / name)
        # Now, because the guest ran on while its memory was written. What it printed in the moment
        # after that stands there twice; nothing is left out.
        (staging / BOOT_LOG).touch(mode=0o600)
        shutil.copyfile(run_dir / CONSOLE, staging / BOOT_LOG)
        note = {
            "argv": _arguments(run_dir),
            "heard": opening.heard.hex(),
            "said": opening.said.decode(),
            "boot_s": boot_s,
            "recipe": recipe(machine),
        }
        (staging / _NOTE).write_text(json.dumps(note))
        _drop_others(machine, place)


def _arguments(run_dir: Path) -> list[str]:
    words = (run_dir / "argv").read_text().split("\0")[:-1]
    return [word.replace(str(run_dir), _RUN_DIR) for word in words]


def _drop_others(machine: Machine, keep: Path) -> None:
    same = [p for p in saved_dir().glob(f"{machine.release}-*") if p != keep and p.is_dir()]
    for place in sorted(same, key=lambda path: path.stat().st_mtime)[: 1 - _KEPT]:
        remove(place)
