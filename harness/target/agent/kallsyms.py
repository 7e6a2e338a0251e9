# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The running kernel's own symbols: what a stack is decoded with where no System.map is at hand."""

import base64
import zlib
from pathlib import Path

from harness.errors import WorldError

PATH = Path("/proc/kallsyms")
# where the kernel's code begins: what its random place is measured by
_BASE = " _text"
# code, global and static, weak or not
_CODE = frozenset("TtWw")


def base(path: Path = PATH) -> int:
    """Address of _text. WorldError where the kernel does not show addresses."""
    with path.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.rstrip().endswith(_BASE):
                address = int(line.split()[0], 16)
                if address:
                    return address
                break
    raise WorldError(f"{path} shows no addresses", fix="sysctl kernel.kptr_restrict=0, as root")


def packed(path: Path = PATH) -> str:
    """Functions of the kernel itself, as in a System.map; zlib in base64."""
    kept = []
    with path.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            words = line.split()
            # a fourth word is the module
            if len(words) == 3 and words[1] in _CODE:
                kept.append(line)
    return base64.b64encode(zlib.compress("".join(kept).encode(), 1)).decode()
