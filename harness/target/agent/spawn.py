# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""bpftool as a child process: an argument list, a time limit, its words."""

import functools
import subprocess
from typing import NamedTuple

from harness.errors import WorldError

_LIMIT_S = 60.0


class Finished(NamedTuple):
    """How a child ended."""

    status: int
    stdout: str
    stderr: str


def bpftool(*arguments: str, limit_s: float = _LIMIT_S) -> Finished:
    """Run bpftool. Raises WorldError when it is missing or takes longer than `limit_s`."""
    argv = ["bpftool", *arguments]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
            env={"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"},
        )
    except FileNotFoundError:
        raise WorldError(
            "the machine has no bpftool", fix="install bpftool with libbpf >= 1.3 there"
        ) from None
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")
        raise WorldError(f"{' '.join(argv)} took longer than {limit_s} s", evidence=said) from None
    return Finished(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


@functools.cache
def loader() -> str:
    """Name and version for a provenance: "bpftool v7.5.0 using libbpf v1.5"."""
    lines = bpftool("version").stdout.splitlines()
    return " ".join(line.strip() for line in lines[:2])
