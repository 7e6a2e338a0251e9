# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What of the cache is worth keeping from one job of a CI to the next, and under which key.

A key names all that decides what the directories hold, so that a job that finds its key needs
nothing new. Nothing depends on keys being right: whoever uses the cache checks what it finds there.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import tools
from harness.kernels import builder, catalogue, root, spec, store
from harness.kernels.builder import Order
from harness.paths import VM_DIR, cache_dir

# parts of the package and the data that decide what a saved guest is
_PACKAGE = VM_DIR.parent / "harness"
_GUEST = (_PACKAGE / "target", VM_DIR)
_TARGET_SUFFIXES = (".py", ".sh", ".toml")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Area:
    """Directories of the cache that are kept together."""

    # "kernels", "guests", "build" or "ccache"
    name: str
    key: str
    # beginning of keys of which the newest is better than nothing; "" where it would not be
    restore: str
    paths: tuple[Path, ...]


def areas(specs: Sequence[str], order: Order | None) -> list[Area]:
    """What a job keeps that runs on the kernels `specs` and builds `order` (None: builds nothing).

    UsageError for a spec or an order that is none.
    """
    known = catalogue.load()
    names = [each for each in spec.expand(specs) if each in known.entries]
    plan = builder.plan_of(order) if order else None
    recipe = [asdict(known.entries[name]) for name in names] + [root.recipe_hash()]
    kernels = _hash(json.dumps(recipe, default=str))
    found = [_area("kernels", kernels, (store.kernels_dir(), cache_dir() / "root"))]
    host = _hash(_host())
    guests = _hash(kernels, plan.key if plan else "", *_sources())
    kinds = ("guests", "initramfs", "agent", "accel")
    found.append(_area("guests", guests, [cache_dir() / kind for kind in kinds], host))
    if plan is not None:
        found.append(_area("build", plan.place.name, (plan.place,)))
        compiler = _hash(builder.compiler(), *(f"{o.name}={o.value}" for o in plan.options))
        found.append(_area("ccache", _hash(plan.key), (_ccache(),), compiler))
    return found


def _area(name: str, key: str, paths: Sequence[Path], like: str = "") -> Area:
    restore = f"bpfthrow-{name}-{like}-" if like else ""
    return Area(name, f"{restore or f'bpfthrow-{name}-'}{key}", restore, tuple(paths))


def _hash(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]


def _host() -> str:
    """A saved guest fits the QEMU that wrote it, and a processor that has what its own had."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    kept = [line for line in lines if line.startswith(("model name", "flags"))][:2]
    qemu = tools.find("qemu-system-x86_64")
    return "\n".join([*kept, tools.run([qemu, "--version"]) if qemu else ""])


def _sources() -> list[str]:
    files = [path for place in _GUEST for path in sorted(place.rglob("*"))]
    # some of these go into the agent: a key that stays would keep a state that fits no more
    files += sorted(_PACKAGE.glob("*.py"))
    return [path.read_text() for path in files if path.suffix in _TARGET_SUFFIXES]


def _ccache() -> Path:
    program = tools.find("ccache")
    said = tools.run([program, "--get-config", "cache_dir"]).strip() if program else ""
    return Path(said) if said else Path.home() / ".cache/ccache"


def github(found: Sequence[Area]) -> list[str]:
    """Lines for the file $GITHUB_OUTPUT: AREA-key, AREA-restore and AREA-paths (one a line)."""
    lines = []
    for area in found:
        lines += [f"{area.name}-key={area.key}", f"{area.name}-restore={area.restore}"]
        lines += [f"{area.name}-paths<<end-of-paths", *map(str, area.paths), "end-of-paths"]
    return lines
