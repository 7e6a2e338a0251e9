# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What in the cache nobody needs any more, and removing it."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.kernels import builds, source, store
from harness.kernels.catalogue import Catalogue
from harness.kernels.image import Kernel
from harness.kernels.root import recipe_hash
from harness.kernels.spec import trees_dir
from harness.paths import cache_dir, locked, remove, size_bytes, unless_locked

_ABANDONED_S = 6 * 3600
# Archives that are made anew when they are needed, each kind under the lock of its name.
_ARCHIVES = {"agent": "*.pyz", "initramfs": "*.cpio", "guests": "*"}
# other directories where single files, and the guest root, are written beside their place first
_WRITTEN_INTO = (".", "root", "accel", "btf", "symbols")
_UNUSED_S = 24 * 3600
# an unpacked source with what was compiled from it takes 2.5 GB, and a download and minutes to have
_SOURCE_UNUSED_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was removed from the cache."""

    what: str
    size_bytes: int


def _children(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(path for path in place.iterdir() if path.is_dir())


# Hidden names are work in progress, or what a killed process left of it.
def _stale_kernels(known: Catalogue) -> Iterator[Path]:
    current = {
        kernel.release for name in known.entries if (kernel := store.newest_cached(known, name))
    }
    for place in _children(store.kernels_dir()):
        if place.name not in current and not place.name.startswith("."):
            yield place


def _stale_trees() -> Iterator[Path]:
    for place in _children(trees_dir()):
        if place.name.startswith("."):
            continue
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


# No download takes so long: what a killed process left, whoever it was.
def _stale_partials() -> Iterator[Path]:
    places = [store.kernels_dir(), trees_dir(), builds.builds_dir(), source.sources_dir()]
    places += [cache_dir() / name for name in _WRITTEN_INTO]
    for place in (*places, *_children(cache_dir() / "apt")):
        for partial in sorted(place.glob(".*")):
            if _age_s(partial) > _ABANDONED_S:
                yield partial


def _remove(place: Path) -> Removed:
    removed = Removed(f"{place.parent.name}/{place.name}", size_bytes(place))
    if place.is_dir():
        remove(place)
    else:
        place.unlink()
    return removed


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def remove_archives(*, unused_only: bool = False) -> list[Removed]:
    """Agents, initramfs, saved guests, and what killed processes left of them, under their locks.

    `unused_only` keeps what was made (a guest, an initramfs: used) within a day, and the newest.
    """
    removed = []
    for kind, pattern in _ARCHIVES.items():
        place = cache_dir() / kind
        if not place.is_dir():
            continue
        with locked(kind):
            doomed = sorted(place.iterdir())
            if unused_only:
                # the rest is what killed processes left: whoever makes something has the lock
                made = [path for path in place.glob(pattern) if not path.name.startswith(".")]
                newest = min(made, key=_age_s, default=None)
                kept = {path for path in made if path == newest or _age_s(path) <= _UNUSED_S}
                doomed = [path for path in doomed if path not in kept]
            removed += [_remove(path) for path in doomed]
    return removed


def remove_unused(known: Catalogue) -> list[Removed]:
    """Older releases, what belongs to trees and recipes that are gone, old archives, remains."""
    stale = [*_stale_kernels(known), *_stale_trees(), *_stale_roots(), *_stale_partials()]
    removed = remove_builds(_superseded()) + remove_sources(unused_only=True)
    return [_remove(place) for place in stale] + removed + remove_archives(unused_only=True)


def remove_kernels(kernels: list[Kernel]) -> list[Removed]:
    """Named kernels of the catalogue, under their locks."""
    removed = []
    for kernel in kernels:
        place = store.kernels_dir() / kernel.release
        removed.append(Removed(f"kernels/{kernel.release}", size_bytes(place)))
        store.evict(kernel)
        removed += _remove_guests(kernel)
    return removed


def _remove_guests(kernel: Kernel) -> list[Removed]:
    with locked("guests"):
        found = sorted((cache_dir() / "guests").glob(f"{kernel.release}-*"))
        return [_remove(each) for each in found if each.name.rpartition("-")[0] == kernel.release]


# A name that was used again stands for the newest; the others can be had by no name.
def _superseded() -> list[Kernel]:
    built = list(builds.cached())
    newest = {kernel.name: kernel for kernel in built}
    return [kernel for kernel in built if newest[kernel.name] != kernel]


def remove_builds(kernels: list[Kernel]) -> list[Removed]:
    """Kernels that were compiled here; their sources stay, so that they are built again soon."""
    removed = []
    left = {kernel.image for kernel in builds.cached()} - {kernel.image for kernel in kernels}
    releases = {kernel.release for kernel in builds.cached() if kernel.image in left}
    for kernel in kernels:
        removed.append(_remove(kernel.image.parent))
        if kernel.release not in releases:
            removed += _remove_guests(kernel)
    return removed


def remove_sources(*, unused_only: bool = False) -> list[Removed]:
    """Unpacked sources with what was compiled from them; one that is being compiled stays.

    `unused_only` keeps those that were used within a week.
    """
    removed = []
    for place in _children(source.sources_dir()):
        note = place / source.NOTE
        age_s = _age_s(note if note.is_file() else place)
        if place.name.startswith(".") or (unused_only and age_s < _SOURCE_UNUSED_S):
            continue
        with unless_locked(f"source-{place.name}") as ours:
            if ours:
                removed.append(_remove(place))
            else:
                tools.say(f"{place.name} stays: it is being compiled")
    return removed
