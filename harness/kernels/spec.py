# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a user may write after --kernel, and the kernel it stands for."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import UsageError
from harness.kernels import builds, catalogue, kconfig, modules, store
from harness.kernels.image import Kernel, numbers, release_of, should_throw
from harness.paths import cache_dir, locked, staged

# between the ends of a range of versions
_RANGE = ".."


def trees_dir() -> Path:
    """Where module indices of kernels that are not ours are kept, one directory per image."""
    return cache_dir() / "trees"


# Anything that changes when the image or its modules are built anew.
def _stamp(image: Path, source: Path) -> list[list[int]]:
    watched = (image, source / "modules.order", source / "modules.builtin")
    return [
        [entry.stat().st_mtime_ns, entry.stat().st_size] if entry.exists() else [0, 0]
        for entry in watched
    ]


def _indexed(
    image: Path, release: str, source: Path, files: Iterator[tuple[str, Path]]
) -> Path | None:
    key = hashlib.sha256(str(image).encode()).hexdigest()[:16]
    place = trees_dir() / key
    note = {"image": str(image), "stamp": _stamp(image, source)}
    found = place / "usr/lib/modules" / release
    with locked(f"tree-{key}"):
        try:
            fresh = json.loads((place / "tree.json").read_text()) == note
        except (OSError, ValueError):
            fresh = False
        if not fresh:
            with staged(place) as staging:
                modules.link(files, source, staging, release)
                (staging / "tree.json").write_text(json.dumps(note))
    return found if (found / "modules.dep").is_file() else None


def from_tree(path: Path) -> Kernel:
    """A built kernel tree: its bzImage, and its modules where they have been built too."""
    tree = path.expanduser().resolve()
    if not (tree / "Kbuild").is_file():
        raise UsageError(
            f"{tree} is not a kernel tree (no Kbuild)", fix="tree:PATH of a source tree"
        )
    image = tree / "arch/x86/boot/bzImage"
    if not image.is_file():
        raise UsageError(f"{tree} is not built: no {image}", fix=f"make -C {tree} bzImage modules")
    recorded = tree / "include/config/kernel.release"
    release = recorded.read_text().strip() if recorded.is_file() else release_of(image)
    config = tree / ".config"
    indexed = _indexed(image, release, tree, modules.of_tree(tree))
    if config.is_file():
        _require_options(config, f"tree:{tree}", modules=indexed is not None)
    return Kernel(
        name=release,
        release=release,
        image=image,
        modules=indexed,
        config=config if config.is_file() else None,
        expects_throw=should_throw(release),
        origin=f"tree:{tree}",
    )


def _require_options(config: Path, what: str, *, modules: bool) -> None:
    """Said before a boot that could only fail."""
    lost = kconfig.lacking(config, kconfig.read(kconfig.FRAGMENT), modules=modules)
    if lost:
        lines = "".join(f"\n  {each.name} ({each.why})" for each in lost)
        built = "" if modules else ", built in"
        raise UsageError(
            f"{what}: its configuration ({config}) lacks what a guest needs{built}:{lines}",
            fix="turn these on and build it again, or let `bpfthrow kernels build` configure it",
        )


def from_image(path: Path) -> Kernel:
    """A bzImage anywhere; its modules are looked for upwards from it, as installed or unpacked."""
    image = path.expanduser().resolve()
    if image.parts[-4:] == ("arch", "x86", "boot", "bzImage"):
        return from_tree(image.parents[3])
    release = release_of(image)
    installed = modules.beside(image, release)
    if installed and not (installed / "modules.dep").is_file():
        installed = _indexed(image, release, installed, modules.of_directory(installed))
    configs = [image.with_name(f"config-{release}")]
    configs += [installed / "config"] if installed else []
    config = next((config for config in configs if config.is_file()), None)
    if config is not None:
        _require_options(config, str(image), modules=installed is not None)
    return Kernel(
        name=release,
        release=release,
        image=image,
        modules=installed,
        config=config,
        expects_throw=should_throw(release),
        origin=str(image),
    )


def names(spec: str, known: catalogue.Catalogue) -> list[str]:
    """Catalogue names that a spec stands for; [] when it is a path, a tree or a build.

    A range takes in both ends, which need not be names: "6.7..7.0", "..6.18", "6.12..".
    """
    if spec.startswith(("tree:", "build:")) or "/" in spec:
        return []
    if spec == "all":
        return list(known.entries)
    if spec in {"", "default"}:
        return [known.default]
    if _RANGE in spec:
        return _between(spec, known)
    found = [name for name in known.entries if name == spec or fnmatchcase(name, spec)]
    if not found and not Path(spec).is_file():
        raise UsageError(
            f"no kernel is called {spec!r}; the catalogue has {', '.join(known.entries)}",
            fix="one of these, a pattern or a range (6.12..7.3) of them, all,"
            " build:NAME, tree:PATH, or a bzImage's path",
        )
    return found


def _between(spec: str, known: catalogue.Catalogue) -> list[str]:
    ends = [end.strip() for end in spec.split(_RANGE)]
    versions = [numbers(end) if end else () for end in ends]
    told = [version for end, version in zip(ends, versions, strict=True) if end]
    if len(ends) != 2 or not told or not all(told):
        raise UsageError(
            f"{spec!r} is no range of kernels", fix="two versions: 6.12..7.3, or one: 6.12.. ..6.18"
        )
    first, last = versions

    def inside(version: tuple[int, ...]) -> bool:
        # "..6.18" takes in 6.18 and whatever is called 6.18.something
        return (not first or version >= first) and (not last or version[: len(last)] <= last)

    found = [name for name in known.entries if inside(numbers(name))]
    if not found:
        raise UsageError(
            f"no kernel lies in {spec}; the catalogue has {', '.join(known.entries)}",
            fix="put the older version first" if first > last > () else "a wider range",
        )
    return found


def expand(specs: Iterable[str]) -> list[str]:
    """Specs of one kernel each for specs of any number, in their order, each once.

    Nothing is fetched. UsageError for one that stands for nothing.
    """
    known = catalogue.load()
    found: list[str] = []
    for spec in specs:
        found += names(spec, known) or _builds(spec) or [spec]
    return list(dict.fromkeys(found))


def _builds(spec: str) -> list[str]:
    """Those that a pattern of builds stands for; [] where it is none."""
    pattern = spec.removeprefix("build:")
    if pattern == spec or not set("*?[") & set(pattern):
        return []
    built = list(dict.fromkeys(kernel.name for kernel in builds.cached()))
    found = [f"build:{name}" for name in built if fnmatchcase(name, pattern)]
    if not found:
        raise UsageError(
            f"no kernel was built under a name like {pattern!r} (there are:"
            f" {', '.join(built) or 'none'})",
            fix="bpfthrow kernels build --source deb:linux-source-7.3 --name NAME",
        )
    return found


def _elsewhere(spec: str) -> Kernel:
    kind, _, rest = spec.partition(":")
    if kind == "tree":
        return from_tree(Path(rest))
    if kind == "build":
        return builds.find(rest)
    return from_image(Path(spec))


def resolve_all(specs: Iterable[str]) -> list[Kernel]:
    """Kernels for specs, in their order, each once; fetches what is not in the cache."""
    known = catalogue.load()
    found: dict[str, Kernel] = {}
    for spec in expand(specs):
        kernel = store.fetch(known, spec) if spec in known.entries else _elsewhere(spec)
        found.setdefault(str(kernel.image), kernel)
    return list(found.values())


def resolve(spec: str) -> Kernel:
    """The one kernel that `spec` stands for; UsageError when it stands for several."""
    kernels = resolve_all([spec])
    if len(kernels) > 1:
        raise UsageError(
            f"{spec!r} stands for several kernels: {', '.join(each.name for each in kernels)}",
            fix="name one of them",
        )
    return kernels[0]
