# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The guests of this user as they lie on disk and in /proc: directories, notes, processes.

Owns finding, ending and clearing away. How a guest is started is vm.py's business.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError, WorldError
from harness.paths import replace_file
from harness.target import keeper

# QEMU writes this one; of a restored guest, the other has what it had printed when it was saved
CONSOLE, BOOT_LOG = "console.log", "boot.log"
_PRIVATE_NAME = "bpfthrow"
_END_TIMEOUT_S = 10.0
_POLL_S = 0.02


def runtime_dir() -> Path:
    """Private directory for sockets and keys: short, because unix socket paths end at 107 bytes."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    place = Path(base) / _PRIVATE_NAME
    # virtme-run and QEMU's option syntax take few characters in paths
    good = re.fullmatch(r"/[\w/.+-]{1,59}", str(place))
    if not good or not os.access(place if os.path.lexists(place) else base, os.W_OK | os.X_OK):
        place = Path(f"/tmp/bpfthrow-{os.getuid()}")
    try:
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot create {place}: {error.strerror}",
            fix=f"remove {place}, or set XDG_RUNTIME_DIR to a private directory",
        ) from error
    info = place.lstat()
    if info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise UsageError(
            f"{place} belongs to someone else or is open to others",
            fix=f"remove {place}, or set XDG_RUNTIME_DIR to a private directory",
        )
    return place


@dataclass(frozen=True, slots=True)
class Detached:
    """A guest that lives on its own."""

    label: str
    run_dir: Path
    recipe: dict[str, object]
    # time.time() of its start
    started: float
    boot_s: float
    # whether its agent listens
    prepared: bool
    alive: bool


def detached() -> list[Detached]:
    """All guests of this user that live on their own, oldest first."""
    found = []
    for run_dir in runtime_dir().iterdir():
        try:
            note = json.loads((run_dir / "machine.json").read_text())
        except (OSError, ValueError):
            continue
        if note.get("detached"):
            alive = qemu_pid(run_dir) is not None
            fields = (note["recipe"], note["started"], note["boot_s"], note.get("prepared", False))
            found.append(Detached(note["label"], run_dir, *fields, alive))
    return sorted(found, key=lambda entry: entry.started)


def write_note(run_dir: Path, note: dict[str, object]) -> None:
    """Keep what detached() and `vm list` want to know of a guest."""
    replace_file(run_dir / "machine.json", json.dumps(note).encode())


def read_text(path: Path) -> str:
    """The text of a file, or nothing where there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def whole_console(run_dir: Path) -> str:
    """What the kernel of this guest printed since it booted, be it before the guest was saved."""
    return "".join(read_text(run_dir / name) for name in (BOOT_LOG, CONSOLE))


def keeper_pid(run_dir: Path) -> int | None:
    """Process that keeps the guest in `run_dir`, or None when it is gone."""
    text = read_text(run_dir / keeper.PID).strip()
    if not text.isdecimal():
        return None
    return int(text) if str(run_dir) in _command(int(text)) else None


def _command(pid: int) -> list[str]:
    return read_text(Path("/proc") / str(pid) / "cmdline").split("\0")


def qemu_pid(run_dir: Path) -> int | None:
    """QEMU of the guest in `run_dir`, or None when it has ended."""
    kept = keeper_pid(run_dir)
    if kept is None:
        return None
    marker = f"file:{run_dir}/{CONSOLE}"
    # a child of the keeper that has not become anything else yet has its words, too
    keepers = _command(kept)
    for pid in _descendants(kept):
        command = _command(pid)
        begun = command != keepers and "virtme-run" not in " ".join(command[:3])
        if begun and marker in command:
            return pid
    return None


def _descendants(pid: int) -> Iterator[int]:
    for entry in read_text(Path(f"/proc/{pid}/task/{pid}/children")).split():
        yield int(entry)
        yield from _descendants(int(entry))


def end_detached(run_dir: Path) -> None:
    """End the guest that lives in `run_dir`, and remove what it leaves."""
    kept = keeper_pid(run_dir)
    if kept is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(kept, signal.SIGTERM)
        end = time.monotonic() + _END_TIMEOUT_S
        while keeper_pid(run_dir) is not None and time.monotonic() < end:
            time.sleep(_POLL_S)
        if keeper_pid(run_dir) is not None:
            raise WorldError(f"the guest in {run_dir} does not end", fix=f"kill -9 {kept}")
    shutil.rmtree(run_dir, ignore_errors=True)


def reap() -> None:
    """Remove the directories of guests whose keeper was killed."""
    for run_dir in runtime_dir().iterdir():
        try:
            young = time.time() - run_dir.lstat().st_mtime < 60  # its keeper may just be starting
        except FileNotFoundError:
            continue  # another process, or its keeper, was faster
        if run_dir.is_dir() and keeper_pid(run_dir) is None and not young:
            shutil.rmtree(run_dir, ignore_errors=True)
