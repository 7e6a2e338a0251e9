# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel modules that live hooks need, inserted from the list that the boot left.

On a machine that is not a guest of ours there is no list: the kernel loads them by itself.
"""

import ctypes
import errno
import os
from pathlib import Path

from harness.errors import WorldError
from harness.target.agent.syscall import libc

_LIST = Path("/run/bpfthrow/modules/load.list")
_FINIT_MODULE = {"x86_64": 313, "aarch64": 273, "riscv64": 273, "ppc64le": 353, "s390x": 344}


def insert_all() -> None:
    """Insert every module of the list, in its order. One that is there already is fine."""
    if not _LIST.is_file():
        return
    for line in _LIST.read_text(encoding="utf-8").splitlines():
        if line.strip():
            _insert(_LIST.parent / line.strip())


def _insert(path: Path) -> None:
    if not path.is_file():
        return  # built in
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syscall(_FINIT_MODULE[os.uname().machine], fd, b"", 0):
            code = ctypes.get_errno()
            if code != errno.EEXIST:
                raise WorldError(f"cannot insert {path.name}: {os.strerror(code)}")
    finally:
        os.close(fd)
