# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Finished builds: where they lie in the cache, and finding one. builder.py makes them."""

import json
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError
from harness.kernels.image import Kernel, should_throw
from harness.paths import cache_dir

# what a build says of itself; without it there is none
NOTE = "build.json"


def builds_dir() -> Path:
    """Where finished kernels are, one directory each."""
    return cache_dir() / "builds"


def find(name: str) -> Kernel:
    """The kernel that was built under a name. UsageError listing what there is."""
    known = {kernel.name: kernel for kernel in cached()}
    if name not in known:
        raise UsageError(
            f"no kernel was built as {name!r} (there are: {', '.join(known) or 'none'})",
            fix="bpfthrow kernels build --source deb:linux-source-7.3 --name NAME",
        )
    return known[name]


def cached() -> Iterator[Kernel]:
    """Every finished kernel, the oldest first; a name that was used again stands for the newest."""
    places = builds_dir().glob("[!.]*") if builds_dir().is_dir() else ()
    for place in sorted(places, key=lambda path: path.stat().st_mtime):
        kernel = read(place)
        if kernel is not None:
            yield kernel


def read(place: Path) -> Kernel | None:
    """The kernel in a directory of builds_dir(); None where there is none."""
    try:
        note = json.loads((place / NOTE).read_text())
        release = note["release"]
        image = place / "bzImage"
        image.stat()
        return Kernel(
            name=note["name"],
            release=release,
            image=image,
            modules=None,
            config=place / "config",
            expects_throw=should_throw(release),
            origin=f"build:{note['name']} ({note['origin']})",
        )
    except (OSError, ValueError, KeyError):
        return None
