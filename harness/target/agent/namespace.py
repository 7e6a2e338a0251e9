# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Network namespaces with names under /run/netns, made and entered without a child process.

Only the calling thread moves; the agent has one thread.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import WorldError
from harness.target.agent.syscall import libc

_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2
# the end that sends, the end that receives
NAMES = ("bpfthrow-a", "bpfthrow-b")
_PLACE = Path("/run/netns")


def create(name: str) -> int:
    """A new namespace called `name`, which replaces one left over; returns its descriptor."""
    remove(name)
    _PLACE.mkdir(parents=True, exist_ok=True)
    path = _PLACE / name
    path.touch()
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.unshare(_CLONE_NEWNET), "cannot make a network namespace")
        try:
            own = b"/proc/self/ns/net"
            _check(libc.mount(own, str(path).encode(), None, _MS_BIND, None), f"cannot name {name}")
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _check(libc.setns(home, _CLONE_NEWNET), "cannot return to the first namespace")
    finally:
        os.close(home)


def remove(name: str) -> None:
    """Take the name away; the namespace goes when nobody holds it."""
    path = _PLACE / name
    if path.exists():
        libc.umount2(str(path).encode(), _MNT_DETACH)  # fails where a reboot left a plain file
        path.unlink()


@contextmanager
def inside(fd: int) -> Iterator[None]:
    """Be in the namespace `fd`; sockets made here stay in it."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.setns(fd, _CLONE_NEWNET), "cannot enter a namespace")
        try:
            yield
        finally:
            _check(libc.setns(home, _CLONE_NEWNET), "cannot return to the first namespace")
    finally:
        os.close(home)


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise WorldError(f"{what}: {os.strerror(code)}", fix="the agent must run as root")
