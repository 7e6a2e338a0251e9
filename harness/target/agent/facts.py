# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Versions of everything that has a say in a result, for hello."""

import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from harness.errors import WorldError
from harness.target.agent import libbpf, session, spawn


def hello() -> dict[str, Any]:
    """Agent, Python, loaders, kernel."""
    try:
        shared = libbpf.library().version
    except WorldError as error:
        shared = f"absent: {error.message}"
    return {
        "agent": _own_hash(),
        "python": platform.python_version(),
        "bpftool": spawn.loader(),
        "libbpf": shared,
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "jit": session.jit(),
        "n_cpus": os.cpu_count(),
        "pid": os.getpid(),
    }


def _own_hash() -> str:
    archive = Path(sys.argv[0])
    return hashlib.sha256(archive.read_bytes()).hexdigest() if archive.is_file() else ""
