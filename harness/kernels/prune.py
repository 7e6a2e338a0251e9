# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What in the cache nobody needs any more, and removing it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.kernels import store
from harness.kernels.catalogue import Catalogue
from harness.kernels.image import Kernel
from harness.kernels.root import recipe_hash
from harness.kernels.spec import trees_dir
from harness.paths import cache_dir, remove, size_bytes


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was removed from the cache."""

    what: str
    size_bytes: int


def _children(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(path for path in place.iterdir() if path.is_dir())


# Hidden names are what a killed process left half-way; nobody else can be at it under its lock.
def _stale_kernels(known: Catalogue) -> Iterator[Path]:
    current = {
        kernel.release for name in known.entries if (kernel := store.newest_cached(known, name))
    }
    for place in _children(store.kernels_dir()):
        if place.name not in current and not place.name.startswith("."):
            yield place


def _stale_trees() -> Iterator[Path]:
    for place in _children(trees_dir()):
        try:
            image = Path(json.loads((place / "tree.json").read_text())["image"])
        except (OSError, ValueError, KeyError):
            yield place
            continue
        if not image.is_file():
            yield place


def _stale_roots() -> Iterator[Path]:
    for place in _children(cache_dir() / "root"):
        if place.name != recipe_hash() and not place.name.startswith("."):
            yield place


def _remove(place: Path) -> Removed:
    removed = Removed(f"{place.parent.name}/{place.name}", size_bytes(place))
    remove(place)
    return removed


def remove_unused(known: Catalogue) -> list[Removed]:
    """Older releases of a kernel, indices of trees that are gone, roots of older recipes."""
    stale = [*_stale_kernels(known), *_stale_trees(), *_stale_roots()]
    return [_remove(place) for place in stale]


def remove_kernels(kernels: list[Kernel]) -> list[Removed]:
    """Named kernels of the catalogue, under their locks."""
    removed = []
    for kernel in kernels:
        place = store.kernels_dir() / kernel.release
        removed.append(Removed(f"kernels/{kernel.release}", size_bytes(place)))
        store.evict(kernel)
    return removed
