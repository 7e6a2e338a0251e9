# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The symbols of a kernel that is under test, from what lies beside its image or from its guest.

A tree's vmlinux and System.map, a build's System.map; distributions keep theirs in a package of its
own, so for their kernels the guest is asked once, and the answer kept in the cache.
"""

import hashlib
import re
import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from harness import symbols, tools
from harness.errors import BpfthrowError, WorldError
from harness.kernels import Kernel
from harness.paths import cache_dir, make_dir, replace_file
from harness.symbols import Symbols

# kernels whose symbols are kept, about 1 MB each
_KEPT = 12
_ADDR2LINE = ("addr2line", "llvm-addr2line-19", "llvm-addr2line")
_PLACE = re.compile(r"(\S+):(\d+)")


class Guest(Protocol):
    """Who can be asked: harness.target.virtual.VirtualTarget."""

    def kallsyms(self) -> bytes:
        """The kernel's functions as in a System.map, compressed by zlib."""


def symbols_of(kernel: Kernel, guest: Guest) -> Symbols | None:
    """What is known of `kernel`; asks `guest`, which runs it, when nothing is at hand."""
    return at_hand(kernel) or _asked(kernel, guest)


def learn(kernel: Kernel, guest: Guest) -> None:
    """Ask `guest` now, so that the next report has names; without them it is still a report."""
    # the next case waits for us: what is there is read when somebody asks
    with suppress(WorldError, OSError):
        if not any(_maps(kernel.image)) and not _file(kernel).exists():
            _asked(kernel, guest)


def at_hand(kernel: Kernel) -> Symbols | None:
    """What is known of `kernel` without asking anybody."""
    return _beside(kernel.image) or _cached(kernel)


def _places(image: Path) -> list[Path]:
    # a tree has its image in arch/x86/boot
    return [image.parent, *image.parents[3:4]]


def _maps(image: Path) -> list[Path]:
    return [file for place in _places(image) for file in sorted(place.glob("System.map*"))]


def _beside(image: Path) -> Symbols | None:
    places = _places(image)
    for vmlinux in (place / "vmlinux" for place in places):
        if vmlinux.is_file():
            found = symbols.read_vmlinux(vmlinux, partial(_lines, vmlinux))
            if found:
                return found
    for file in _maps(image):
        found = symbols.parse(file.read_text(errors="replace"), str(file))
        if found:
            return found
    return None


def _file(kernel: Kernel) -> Path:
    digest = hashlib.sha256(kernel.image.read_bytes()).hexdigest()[:16]
    return cache_dir() / "symbols" / f"{kernel.release}-{digest}.z"


def _cached(kernel: Kernel) -> Symbols | None:
    try:
        text = zlib.decompress(_file(kernel).read_bytes()).decode()
    except (OSError, zlib.error, UnicodeDecodeError):
        return None
    return symbols.parse(text, "kallsyms of a guest")


def _asked(kernel: Kernel, guest: Guest) -> Symbols | None:
    packed = guest.kallsyms()
    file = _file(kernel)
    make_dir(file.parent)
    replace_file(file, packed)
    older = sorted(file.parent.glob("*.z"), key=lambda path: path.stat().st_mtime)
    for path in older[:-_KEPT]:
        path.unlink(missing_ok=True)
    return symbols.parse(zlib.decompress(packed).decode(), "kallsyms of a guest")


def _lines(vmlinux: Path, addresses: Sequence[int]) -> dict[int, str]:
    """Address -> "file:line", as far as binutils can tell; {} on a machine without them."""
    tool = next((path for path in map(shutil.which, _ADDR2LINE) if path), None)
    if tool is None or not addresses:
        return {}
    try:
        said = tools.run([tool, "-e", str(vmlinux), *(f"{each:#x}" for each in addresses)])
    except BpfthrowError:
        return {}  # names without lines are still names
    tree = f"{vmlinux.parent}/"
    found = {}
    for address, line in zip(addresses, said.splitlines(), strict=False):
        match = _PLACE.match(line)
        if match and match[2] != "0":
            found[address] = f"{match[1].removeprefix(tree)}:{match[2]}"
    return found
