# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where bpfthrow keeps things on this machine, and how several processes share the place.

Owns the cache layout, its locks, and the rule "complete or absent". Knows nothing of what is kept.
"""

import errno
import fcntl
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness import tools
from harness.errors import BpfthrowError, MachineLostError, UsageError

# tenths of a second until a wait is told
_PATIENCE = 10
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
# less than this is a full disk, whatever a program that ran into its end says
LEFT_BYTES = 1 << 20
_ROOM_IN_CACHE = "`bpfthrow kernels rm --unused`, or set XDG_CACHE_HOME to a larger file system"
_ROOM_FOR_GUESTS = "make room there, or set XDG_RUNTIME_DIR to a private directory with more"
# Data files of the repository: catalogue, guest recipe, splat lists.
VM_DIR = Path(__file__).resolve().parent.parent / "vm"


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/bpfthrow, or ~/.cache/bpfthrow where it is unset or relative (XDG base
    directory specification: relative paths are to be ignored). Not created.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "bpfthrow"


def make_dir(path: Path) -> Path:
    """Create `path` with its parents; UsageError with the fix where that is refused,
    MachineLostError where there is no space.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused("create", path, error) from error
    return path


def _refused(verb: str, path: Path, error: OSError) -> BpfthrowError:
    message = f"cannot {verb} {path}: {error.strerror}"
    if error.errno in NO_SPACE:
        return MachineLostError(message, fix=_ROOM_IN_CACHE)
    return UsageError(message, fix="set XDG_CACHE_HOME to a directory that you may write")


@contextmanager
def locked(name: str, purpose: str = "") -> Iterator[int]:
    """Hold the lock `name` of this cache; waits for another process that has it.

    flock(2): the kernel drops it with the process, so that a crash never leaves a lock behind.
    Yields its descriptor: a child that inherits it holds the lock with us. With a `purpose`, who
    has to wait says for whom, in the words of the other's purpose.
    """
    path = make_dir(cache_dir() / "locks") / name
    try:
        handle = path.open("a+")
    except OSError as error:
        raise _refused("write", path, error) from error
    with handle:
        if purpose:
            _take(handle, purpose)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


@contextmanager
def unless_locked(name: str) -> Iterator[bool]:
    """Hold the lock `name` if nobody has it; whether we do."""
    path = make_dir(cache_dir() / "locks") / name
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _take(handle: IO[str], purpose: str) -> None:
    # who holds a lock for a moment only is not worth a word
    for _ in range(_PATIENCE):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.1)
    else:
        handle.seek(0)
        tools.say(f"waiting for {handle.read().strip() or 'another process'}")
        fcntl.flock(handle, fcntl.LOCK_EX)
    handle.truncate(0)
    handle.write(f"process {os.getpid()}, which is {purpose}\n")
    handle.flush()


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new directory that becomes `target` when the block ends well, and vanishes when not.

    To be used under a lock: what a killed process left is found and removed by the next one. The
    name is new each time, since a child of the killed one may still be writing to the old place.
    """
    make_dir(target.parent)
    for remains in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        shutil.rmtree(remains, ignore_errors=True)
    name = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    staging = Path(name)
    staging.chmod(0o755)
    try:
        yield staging
        remove(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def require_parents(*files: Path | None) -> None:
    """UsageError for a file, where one is given, that cannot be written: before there is anything
    to write, which would be lost.
    """
    for file in filter(None, files):
        if not file.parent.is_dir():
            raise UsageError(
                f"cannot write {file}: no directory {file.parent}",
                fix="give a path in an existing directory",
            )
        if file.is_dir():
            raise UsageError(
                f"cannot write {file}: it is a directory", fix="name a file, in it or elsewhere"
            )
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise UsageError(
                f"cannot write {file}: you may not", fix="give a path that you may write"
            )


def write_asked(path: Path, data: bytes) -> None:
    """Write a file that the caller has asked for. UsageError where that cannot be,
    MachineLostError where there is no space.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        if error.errno in NO_SPACE:
            raise MachineLostError(message, fix="make room there, or give another path") from error
        raise UsageError(message, fix="give a path that you may write") from error


def replace_file(path: Path, data: bytes) -> None:
    """Make `data` the content of `path` at once; whatever fails, it stays what it was.

    Several processes may do so at the same time: the last one has the file. OSError, which says
    for what file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.partial")
    try:
        # "x", not mkstemp(3): the umask says who may read it
        with partial.open("xb") as file:
            file.write(data)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # write(2) only has a descriptor
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(path)
        raise


def remove(path: Path) -> None:
    """Remove a directory tree if it is there: renamed first, so that nobody sees half of it."""
    if path.is_dir():
        doomed = path.with_name(f".{path.name}.old")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)


def size_bytes(path: Path) -> int:
    """Disk space that a file or a tree takes (hard links and holes counted as the disk does)."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(entry.lstat().st_blocks * 512 for entry in files)


def require_space(needed_bytes: int, purpose: str, place: Path | None = None) -> None:
    """MachineLostError unless the file system of `place`, or the cache's, has `needed_bytes`."""
    place = place or make_dir(cache_dir())
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < needed_bytes:
        # so that nothing is never enough
        needed_mb = -(-needed_bytes >> 20)
        raise _no_space(purpose, place, f"{needed_mb} MB needed, {free_bytes >> 20} MB available")


@contextmanager
def telling_no_space(purpose: str, place: Path) -> Iterator[None]:
    """MachineLostError for an OSError that says that `place`, which the block writes to, is full.

    For what require_space() cannot know: others write there too, and inodes and quotas end first.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise _no_space(purpose, place, str(error.strerror)) from error


def _no_space(purpose: str, place: Path, detail: str) -> MachineLostError:
    ours = place.is_relative_to(cache_dir())
    fix = _ROOM_IN_CACHE if ours else _ROOM_FOR_GUESTS
    return MachineLostError(f"no space for {purpose}: {detail} in {place}", fix=fix)
