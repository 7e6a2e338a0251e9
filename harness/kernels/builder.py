# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Builds a kernel for guests out of a source, a series of patches and a configuration.

A finished build is a directory in the cache, complete or absent, found again by the hash of all
that went in; compiling goes on where it was interrupted.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import UsageError
from harness.kernels import builds, catalogue, kconfig, patchset, source
from harness.kernels.image import Kernel, release_of
from harness.kernels.making import compile_kernel
from harness.kernels.patchset import Patch
from harness.kernels.source import Source
from harness.paths import locked, require_space, size_bytes, staged

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,40}")
# objects and debug information of a small configuration; what a build that goes on takes at least
_OUTPUT_BYTES = 3 << 30
_LEAST_BYTES = 512 << 20
_PROGRAMS = ("make", "gcc", "ld", "flex", "bison", "bc", "pahole", "git")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built."""

    # as obtain() takes it
    source: str
    patches: tuple[Path, ...] = ()
    # fragments that are added to vm/guest.config
    fragments: tuple[Path, ...] = ()
    # of the finished kernel: build:NAME
    name: str = ""
    jobs: int = 0


def build(order: Order) -> Kernel:
    """The kernel of an order: from the cache, or compiled.

    UsageError: no source, a series that does not apply, options that are lost, code that does not
    compile (its first error; the log stays).
    """
    plan = plan_of(order)
    done = builds.read(plan.place)
    if done is not None:
        os.utime(plan.place)
        return done
    unpacked = source.is_cached(plan.source)
    _require_space(plan, unpacked=unpacked)
    found = source.obtain(plan.source)
    content = patchset.apply(plan.patches, found.original)
    with locked(f"source-{found.key}", f"building {plan.name}") as held:
        done = builds.read(plan.place)  # another process may have built it meanwhile
        if done is None:
            _require_space(plan, unpacked=True)
            found.patch(content)
            out = found.output(_fragment_key(plan.options))
            _configure(found, out, order.fragments, plan.options)
            argv = _make(found, out, order.jobs or os.cpu_count() or 1, plan.name)
            seconds = compile_kernel(argv, out, found.tree, plan.name, held)
            note = {
                "name": plan.name,
                "origin": _origin(found, plan.patches),
                "seconds": round(seconds, 1),
            }
            _store(out, plan, note)
            done = builds.read(plan.place)
    if done is None:
        raise UsageError(f"the build {plan.place.name} vanished from the cache")
    return done


@dataclass(frozen=True, slots=True)
class Plan:
    """An order that was read: what goes in, and where the kernel will be."""

    name: str
    patches: list[Patch]
    options: list[kconfig.Option]
    source: source.Wanted
    # hash of all that goes in
    key: str

    @property
    def place(self) -> Path:
        """The finished kernel's directory."""
        return builds.builds_dir() / f"{self.name}-{self.key}"


def plan_of(order: Order) -> Plan:
    """Read an order; nothing is unpacked, and only deb: may ask the mirror.

    UsageError: a missing compiler, patches or fragments that cannot be read, no source.
    """
    for program in _PROGRAMS:
        if tools.find(program) is None:
            raise UsageError(f"{program} is not installed", fix="make setup-build")
    patches = patchset.read(order.patches) if order.patches else []
    name = _name(order, patches)
    ours = kconfig.read(kconfig.FRAGMENT)
    theirs = [option for path in order.fragments for option in kconfig.read(path)]
    kconfig.check_kept(ours, theirs)
    wanted = source.find(order.source)
    options = [*ours, *theirs]
    return Plan(name, patches, options, wanted, _key(wanted, patches, options))


def _require_space(plan: Plan, *, unpacked: bool) -> None:
    """Before anything is downloaded: the tree and all that is compiled from it."""
    out = Source(plan.source.key, "", plan.source.place).output(_fragment_key(plan.options))
    there = size_bytes(out) if out.is_dir() else 0
    needed = max(_LEAST_BYTES, _OUTPUT_BYTES - there)
    require_space(needed + (0 if unpacked else source.TREE_BYTES), f"building {plan.name}")


def _name(order: Order, patches: Sequence[Patch]) -> str:
    text = order.name or (Path(patches[0].origin).stem if patches else "plain")
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")[:40]
    if (order.name and name != order.name) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{text!r} cannot be a kernel's name", fix="small letters, digits, dots and dashes"
        )
    if name in catalogue.load().entries:
        # reports would have two columns of one name
        raise UsageError(
            f"{name!r} is a kernel of the catalogue", fix="give the build another --name"
        )
    return name


def _origin(found: Source, patches: Sequence[Patch]) -> str:
    subjects = "; ".join(patch.subject for patch in patches)
    return f"{found.origin}{' + ' if subjects else ''}{subjects}"


def _key(wanted: source.Wanted, patches: Sequence[Patch], options: Sequence[kconfig.Option]) -> str:
    words = [wanted.key, _fragment_key(options), compiler()]
    words += [patch.text for patch in patches]
    text = "\0".join(words).encode(errors="surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def _fragment_key(options: Sequence[kconfig.Option]) -> str:
    text = "".join(f"{option.name}={option.value}\n" for option in options)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def compiler() -> str:
    """What the compiler and the maker of BTF say they are, on one line."""
    gcc = tools.run([tools.need("gcc"), "--version"]).splitlines()[0]
    return f"{gcc}, pahole {tools.run([tools.need('pahole'), '--version']).strip()}"


def _configure(
    found: Source, out: Path, fragments: Sequence[Path], options: list[kconfig.Option]
) -> None:
    """virtme-ng's needs and our fragments on top of nothing."""
    config = out / ".config"
    make = ["make", "-s", "-C", str(found.tree), f"O={out}"]
    if (out / "configured").exists():
        # a series may bring options of its own, which make would ask for
        tools.run([*make, "olddefconfig"], what="make olddefconfig failed")
    else:
        out.mkdir(parents=True, exist_ok=True)
        tools.run([*make, "allnoconfig"], what="make allnoconfig failed")
        argv = [tools.own("virtme-configkernel"), "--update"]
        for fragment in (kconfig.FRAGMENT, *fragments):
            argv += ["--custom", str(fragment.resolve())]
        tools.run([*argv, f"O={out}"], cwd=found.tree, what="virtme-ng cannot configure it")
    kconfig.check(config, options)
    (out / "configured").touch()


def _make(found: Source, out: Path, jobs: int, name: str) -> list[str]:
    argv = ["make", "-C", str(found.tree), f"O={out}", f"-j{jobs}", f"LOCALVERSION=-{name}"]
    if tools.find("ccache"):
        argv.append("CC=ccache gcc")
    return [*argv, "bzImage", "vmlinux"]


def _store(out: Path, plan: Plan, note: dict[str, object]) -> None:
    image = out / "arch/x86/boot/bzImage"
    with staged(plan.place) as staging:
        shutil.copy(image, staging / "bzImage")
        shutil.copy(out / ".config", staging / "config")
        shutil.copy(out / "System.map", staging / "System.map")
        shutil.copy(out / f"{plan.name}.log", staging / "build.log")
        types = staging / "vmlinux.btf"
        objcopy = [tools.need("objcopy"), "-O", "binary", "--only-section=.BTF"]
        objcopy += ["--set-section-flags", ".BTF=alloc,readonly"]
        tools.run([*objcopy, str(out / "vmlinux"), str(types)])
        if not types.is_file() or not types.stat().st_size:
            raise UsageError(
                f"{plan.name} came out without BTF: no program can call bpf_throw there",
                fix=f"see what pahole says in {out}/{plan.name}.log",
            )
        (staging / builds.NOTE).write_text(
            json.dumps(note | {"release": release_of(image)}, indent=1)
        )
