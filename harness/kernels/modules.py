# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Directories of kernel modules: finding one for an image, and making modules.dep.

Modules stay as they were packaged (compressed or not); whoever boots takes out what it needs.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from harness import tools
from harness.errors import UsageError

_BUILT_IN = ("modules.order", "modules.builtin", "modules.builtin.modinfo")


def depmod(base: Path, release: str) -> None:
    """Write modules.dep and the other indices for base/usr/lib/modules/RELEASE (6 s or so).

    Builds of kmod differ in whether they look below lib or below usr/lib: both are served.
    """
    link = base / "lib"
    if not link.exists():
        link.symlink_to("usr/lib")
    tools.run(
        [tools.need("depmod"), "-b", str(base), release],
        timeout_s=600,
        what=f"cannot index the modules of {release}",
    )


def beside(image: Path, release: str) -> Path | None:
    """The installed or unpacked modules that belong to an image, searched upwards from it."""
    for parent in image.resolve().parents:
        for place in ("usr/lib/modules", "lib/modules"):
            candidate = parent / place / release
            if (candidate / "kernel").is_dir():
                return candidate
    return None


def of_tree(tree: Path) -> Iterator[tuple[str, Path]]:
    """(path below kernel/, built file) of each module of a built kernel tree."""
    order = tree / "modules.order"
    names = order.read_text().split() if order.is_file() else []
    for name in names:
        # with "kernel/" before v6.2; objects instead of modules since v6.3
        relative = Path(name.removeprefix("kernel/")).with_suffix(".ko")
        if (tree / relative).is_file():
            yield str(relative), tree / relative


def of_directory(modules: Path) -> Iterator[tuple[str, Path]]:
    """The same of an installed directory."""
    for path in sorted((modules / "kernel").rglob("*.ko*")):
        yield str(path.relative_to(modules / "kernel")), path


def link(files: Iterator[tuple[str, Path]], source: Path, base: Path, release: str) -> Path | None:
    """A directory of links to `files` below `base`, with indices; None where there are no files.

    For modules that belong to somebody else: their place is never written to.
    """
    target = base / "usr/lib/modules" / release
    target.mkdir(parents=True)
    count = 0
    for relative, path in files:
        place = target / "kernel" / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())
        count += 1
    for name in _BUILT_IN:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
    if not count:
        return None
    if not tools.find("depmod"):
        raise UsageError("depmod is not installed", fix="make setup (package kmod)")
    depmod(base, release)
    return target
