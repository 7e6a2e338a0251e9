# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keeps one guest: starts virtme-run, and ends it when the harness ends, however it ends.

Run as a program, with the standard library only:
    python3 -I -S keeper.py RUN_DIR -- ARGV...
The harness holds the other end of standard input. A line there says that RUN_DIR is furnished and
the guest may start. End of file (exit, crash, kill -9) or SIGTERM kills the guest and removes
RUN_DIR. After the line "detach" the guest lives on its own until SIGTERM: it is the harness' last
word on a guest that it has handed over, so that one which nobody was told of never outlives it.
When this process itself is killed, virtme-run dies with it (PR_SET_PDEATHSIG), and QEMU with
virtme-run (its wrapper sets the same).
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# what the harness says: the guest may start; it lives on its own from now on
GO, DETACH = b"go\n", b"detach\n"
PID = "keeper.pid"
# how often it is looked whether RUN_DIR is still there: without it nobody finds the guest again
_LOOK_S = 5.0
# what virtme-run gets to end QEMU in an orderly way
_GRACE_S = 0.5


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(run_dir: Path, argv: list[str]) -> subprocess.Popen[bytes]:
    """Start virtme-run with its output in RUN_DIR, in a process group of its own."""
    with (run_dir / "virtme.out").open("wb") as out, (run_dir / "virtme.err").open("wb") as err:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            process_group=0,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  # one thread, nothing locked
            env=os.environ | {"HOME": str(run_dir)},
        )


def wait(run_dir: Path, child: subprocess.Popen[bytes], stop_fd: int, said: bytes) -> None:
    """Return when told to stop, or when the harness lets go of a guest that was not handed over.

    Also when RUN_DIR was removed. `said`: what the harness has said so far.
    """
    handle = os.pidfd_open(child.pid)
    watched = [handle, stop_fd, 0]
    while True:
        if DETACH in said and 0 in watched:
            watched.remove(0)
        ready, _, _ = select.select(watched, [], [], _LOOK_S)
        if stop_fd in ready or not (run_dir / PID).exists():
            return
        if 0 in ready:
            piece = os.read(0, 4096)
            if not piece:
                return
            said += piece
        if handle in ready:
            # The console stays readable until the harness lets go.
            (run_dir / "exited").touch()
            watched.remove(handle)


def end(child: subprocess.Popen[bytes]) -> None:
    """Kill the whole group and reap what is left of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_S if number == signal.SIGTERM else None)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def main(arguments: list[str]) -> int:
    """Keep one guest; see the module's docstring for the arguments."""
    split = arguments.index("--")
    run_dir = Path(arguments[0])
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stop_read, stop_write = os.pipe()
    os.set_blocking(stop_write, False)
    signal.set_wakeup_fd(stop_write)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        (run_dir / PID).write_text(f"{os.getpid()}\n")
        said = os.read(0, 4096)
        if said:
            child = start(run_dir, arguments[split + 1 :])
            try:
                wait(run_dir, child, stop_read, said)
            finally:
                end(child)
    except OSError as error:
        sys.stderr.write(f"{error.filename or run_dir}: {error.strerror}\n")
        return 1
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
