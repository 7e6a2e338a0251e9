# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Versions of everything that has a say in a result, for hello."""

import os
import sys
from typing import Any

from harness.errors import WorldError
from harness.target.agent import libbpf, session, spawn


def hello(identity: str) -> dict[str, Any]:
    """Agent, Python, loaders, kernel. `identity` is the archive's, as its builder wrote it."""
    try:
        shared = libbpf.library().version
    except WorldError as error:
        shared = f"absent: {error.message}"
    return {
        "agent": identity,
        "python": sys.version.split()[0],
        "bpftool": spawn.loader(),
        "libbpf": shared,
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "jit": session.jit(),
        "n_cpus": os.cpu_count(),
        "pid": os.getpid(),
    }
