# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keeps one guest: starts virtme-run, and ends it when the harness ends, however it ends.

Run as a program, with the standard library only:
    python3 -I -S keeper.py RUN_DIR [--detached] -- ARGV...
The harness holds the other end of standard input. A line there says that RUN_DIR is furnished and
the guest may start. End of file (exit, crash, kill -9) or SIGTERM kills the guest and removes
RUN_DIR. With --detached the guest, once started, lives on its own until SIGTERM. When this process
itself is killed, virtme-run dies with it (PR_SET_PDEATHSIG), and QEMU with virtme-run (its wrapper
sets the same).
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


def wait(run_dir: Path, child: subprocess.Popen[bytes], stop_fd: int, *, detached: bool) -> None:
    """Return when the guest has ended and nobody needs its directory, or when told to stop."""
    handle = os.pidfd_open(child.pid)
    watched = [handle, stop_fd] if detached else [handle, stop_fd, 0]
    while watched:
        ready, _, _ = select.select(watched, [], [])
        if stop_fd in ready or (0 in ready and not os.read(0, 4096)):
            return
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
    run_dir, detached = Path(arguments[0]), "--detached" in arguments[1:split]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stop_read, stop_write = os.pipe()
    os.set_blocking(stop_write, False)
    signal.set_wakeup_fd(stop_write)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        (run_dir / "keeper.pid").write_text(f"{os.getpid()}\n")
        if os.read(0, 4096):
            child = start(run_dir, arguments[split + 1 :])
            try:
                wait(run_dir, child, stop_read, detached=detached)
            finally:
                end(child)
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
