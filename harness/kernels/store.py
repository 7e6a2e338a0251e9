# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernels of the catalogue in the cache: fetched and unpacked, listed, removed.

A kernel is there completely or not at all; two processes that want the same one fetch it once.
"""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness import tools
from harness.errors import UsageError
from harness.kernels import apt, modules
from harness.kernels.catalogue import Catalogue, Entry
from harness.kernels.image import Kernel, numbers, release_of
from harness.paths import cache_dir, locked, remove, require_space, staged

_MANIFEST = "kernel.json"
# depmod's indices and the file system's own needs
_SLACK_BYTES = 64 << 20


def kernels_dir() -> Path:
    """Where the kernels of the catalogue are, one directory per release."""
    return cache_dir() / "kernels"


def _read(place: Path, expects_throw: bool) -> Kernel | None:
    try:
        manifest = json.loads((place / _MANIFEST).read_text())
        kernel = Kernel(
            name=manifest["name"],
            release=manifest["release"],
            image=place / manifest["image"],
            modules=place / "usr/lib/modules" / manifest["release"],
            config=place / manifest["config"] if manifest["config"] else None,
            expects_throw=expects_throw,
            origin=" ".join(manifest["packages"]),
        )
        kernel.image.stat()
    except (OSError, ValueError, KeyError):
        return None  # damaged by hand: as good as absent
    return kernel


def cached(catalogue: Catalogue) -> Iterator[Kernel]:
    """Every complete kernel in the cache whose name the catalogue knows, oldest release first."""
    places = kernels_dir().glob("[!.]*") if kernels_dir().is_dir() else ()
    for place in sorted(places, key=lambda place: numbers(place.name)):
        kernel = _read(place, expects_throw=False)
        entry = catalogue.entries.get(kernel.name) if kernel else None
        if kernel and entry:
            yield _read(place, entry.expects_throw) or kernel


def newest_cached(catalogue: Catalogue, name: str) -> Kernel | None:
    """The newest release of a named kernel that is in the cache."""
    kernels = [kernel for kernel in cached(catalogue) if kernel.name == name]
    return kernels[-1] if kernels else None


# Into the layout that every kernel has here: boot/ or usr/lib/modules/V/vmlinuz, usr/lib/modules/V.
def _unpack(debs: list[Path], place: Path, release: str) -> None:
    for deb in debs:
        argv = [tools.need("dpkg-deb"), "-x", str(deb), str(place)]
        tools.run(argv, what=f"cannot unpack {deb.name}")
    if (place / "lib").is_dir():  # before Debian 13
        shutil.copytree(place / "lib", place / "usr/lib", dirs_exist_ok=True)
        shutil.rmtree(place / "lib")
    shutil.rmtree(place / "usr/share", ignore_errors=True)
    (place / "usr/lib/modules" / release).mkdir(parents=True, exist_ok=True)


def _first(place: Path, *names: str) -> str:
    return next((name for name in names if (place / name).is_file()), "")


def _install(place: Path, name: str, release: str, packages: list[apt.Package]) -> None:
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        debs = apt.download(packages, Path(scratch))
        tools.say(f"unpacking {release}")
        _unpack(debs, place, release)
    below = f"usr/lib/modules/{release}"
    image = _first(place, f"boot/vmlinuz-{release}", f"{below}/vmlinuz")
    if not image or release_of(place / image) != release:
        raise UsageError(
            f"{packages[0].name} holds no kernel image of release {release}",
            fix="correct the pattern in vm/kernels.toml",
        )
    modules.depmod(place, release)
    manifest = {
        "name": name,
        "release": release,
        "image": image,
        "config": _first(place, f"boot/config-{release}", f"{below}/config"),
        "packages": [f"{package.name}={package.version}" for package in packages],
        "fetched_s": int(time.time()),
    }
    (place / _MANIFEST).write_text(json.dumps(manifest, indent=1))


def _wanted(catalogue: Catalogue, entry: Entry) -> tuple[str, list[apt.Package]]:
    package = apt.newest(entry.image, entry.suites, catalogue.exclude)
    release = re.sub(r"^linux-(image|binary)-", "", package.name)
    also = [apt.newest(each.format(release=release), entry.suites) for each in entry.also]
    return release, [package, *also]


def fetch(catalogue: Catalogue, name: str, *, refresh: bool = False) -> Kernel:
    """The newest cached release of a named kernel; fetched when there is none.

    `refresh` asks the mirror for a newer one. Without it a cached kernel needs no network.
    UsageError (no package, no space) or WorldError (mirror, broken download): nothing stays.
    """
    kernel = newest_cached(catalogue, name)
    if kernel and not refresh:
        return kernel
    with locked(f"kernel-{name}"):
        kernel = newest_cached(catalogue, name)  # another process may have fetched it meanwhile
        if kernel and not refresh:
            return kernel
        release, packages = _wanted(catalogue, catalogue.entries[name])
        origin = " ".join(f"{package.name}={package.version}" for package in packages)
        if not kernel or kernel.origin != origin:
            needed_bytes = sum(each.size_bytes + each.unpacked_bytes for each in packages)
            require_space(needed_bytes + _SLACK_BYTES, f"kernel {release}")
            with staged(kernels_dir() / release) as place:
                _install(place, name, release, packages)
            kernel = newest_cached(catalogue, name)
    if kernel is None:
        raise UsageError(f"kernel {name} vanished from the cache while it was fetched")
    return kernel


def evict(kernel: Kernel) -> None:
    """Remove a kernel of the catalogue from the cache."""
    with locked(f"kernel-{kernel.name}"):
        remove(kernels_dir() / kernel.release)
