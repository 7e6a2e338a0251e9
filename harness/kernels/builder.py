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
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import UsageError
from harness.kernels import kconfig, patchset
from harness.kernels.image import Kernel, release_of, should_throw
from harness.kernels.patchset import Patch
from harness.kernels.source import Source, obtain
from harness.paths import VM_DIR, cache_dir, locked, require_space, staged

FRAGMENT = VM_DIR / "guest.config"
_NOTE = "build.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,40}")
# objects and debug information of a small configuration
_OUTPUT_BYTES = 3 << 30
_PROGRAMS = ("make", "gcc", "ld", "flex", "bison", "bc", "pahole", "git")
_STEP = re.compile(r"^  [A-Z]+[A-Z0-9_]* ")
_ERROR = re.compile(r"error:|undefined reference|No rule to make|^make.*\*\*\*|: fatal ")
_PROGRESS_S = 30.0


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
        kernel = _read(place)
        if kernel is not None:
            yield kernel


def _read(place: Path) -> Kernel | None:
    try:
        note = json.loads((place / _NOTE).read_text())
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


def build(order: Order) -> Kernel:
    """The kernel of an order: from the cache, or compiled.

    UsageError: no source, a series that does not apply, options that are lost, code that does not
    compile (its first error; the log stays).
    """
    for program in _PROGRAMS:
        if tools.find(program) is None:
            raise UsageError(f"{program} is not installed", fix="make setup-build")
    patches = patchset.read(order.patches) if order.patches else []
    name = _name(order, patches)
    options = [option for path in (FRAGMENT, *order.fragments) for option in kconfig.read(path)]
    source = obtain(order.source)
    content = patchset.apply(patches, source.original)
    key = _key(source, patches, options)
    place = builds_dir() / f"{name}-{key}"
    done = _read(place)
    if done is not None:
        os.utime(place)
        return done
    with locked(f"source-{source.key}"):
        done = _read(place)  # another process may have built it meanwhile
        if done is None:
            require_space(_OUTPUT_BYTES, f"building {name}")
            source.patch(content)
            out = source.output(_fragment_key(options))
            _configure(source, out, order.fragments, options)
            seconds = _compile(source, out, order.jobs or os.cpu_count() or 1, name)
            note = {"name": name, "origin": _origin(source, patches), "seconds": round(seconds, 1)}
            _store(out, place, note)
            done = _read(place)
    if done is None:
        raise UsageError(f"the build {place.name} vanished from the cache")
    return done


def _name(order: Order, patches: Sequence[Patch]) -> str:
    text = order.name or (Path(patches[0].origin).stem if patches else "plain")
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")[:40]
    if (order.name and name != order.name) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{text!r} cannot be a kernel's name", fix="small letters, digits, dots and dashes"
        )
    return name


def _origin(source: Source, patches: Sequence[Patch]) -> str:
    subjects = "; ".join(patch.subject for patch in patches)
    return f"{source.origin}{' + ' if subjects else ''}{subjects}"


def _key(source: Source, patches: Sequence[Patch], options: Sequence[kconfig.Option]) -> str:
    words = [source.key, _fragment_key(options), _compiler()]
    words += [patch.text for patch in patches]
    text = "\0".join(words).encode(errors="surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def _fragment_key(options: Sequence[kconfig.Option]) -> str:
    text = "".join(f"{option.name}={option.value}\n" for option in options)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _compiler() -> str:
    gcc = tools.run([tools.need("gcc"), "--version"]).splitlines()[0]
    return f"{gcc}, pahole {tools.run([tools.need('pahole'), '--version']).strip()}"


def _configure(
    source: Source, out: Path, fragments: Sequence[Path], options: list[kconfig.Option]
) -> None:
    """virtme-ng's needs and our fragments on top of nothing."""
    config = out / ".config"
    if not (out / "configured").exists():
        out.mkdir(parents=True, exist_ok=True)
        make = ["make", "-s", "-C", str(source.tree), f"O={out}"]
        tools.run([*make, "allnoconfig"], what="make allnoconfig failed")
        argv = [tools.own("virtme-configkernel"), "--update"]
        for fragment in (FRAGMENT, *fragments):
            argv += ["--custom", str(fragment.resolve())]
        tools.run([*argv, f"O={out}"], cwd=source.tree, what="virtme-ng cannot configure it")
    kconfig.check(config, options)
    (out / "configured").touch()


def _compile(source: Source, out: Path, jobs: int, name: str) -> float:
    """Run make; seconds that it took. Its output is in OUT/build.log."""
    argv = ["make", "-C", str(source.tree), f"O={out}", f"-j{jobs}", f"LOCALVERSION=-{name}"]
    if tools.find("ccache"):
        argv.append("CC=ccache gcc")
    argv += ["bzImage", "vmlinux"]
    log = out / "build.log"
    began = time.monotonic()
    with log.open("w") as lines, _make(argv) as process:
        progress = _Progress(name, _steps(out))
        assert process.stdout is not None
        for line in process.stdout:
            lines.write(line)
            if _STEP.match(line):
                progress.step(line.strip())
    progress.end()
    if process.returncode:
        raise UsageError(
            f"{name} does not compile: {_first_error(log)}", fix=f"the whole log: {log}"
        )
    if progress.done > _steps(out):
        (out / "steps").write_text(str(progress.done))
    return time.monotonic() - began


@contextmanager
def _make(argv: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """Compile in a process group of its own, ended with us; what it has compiled stays good."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
        # reproducible, and nothing of this machine in the image
        env=os.environ
        | {"LC_ALL": "C", "KBUILD_BUILD_USER": "bpfthrow", "KBUILD_BUILD_HOST": "bpfthrow"},
    )
    try:
        yield process
        process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        assert process.stdout is not None
        process.stdout.close()


def _steps(out: Path) -> int:
    try:
        return int((out / "steps").read_text())
    except (OSError, ValueError):
        return 0


def _first_error(log: Path) -> str:
    for line in log.read_text(errors="replace").splitlines():
        if _ERROR.search(line):
            return line.strip()
    return "make failed without saying why"


class _Progress:
    """Compiled files, on one line of a terminal or every half minute elsewhere."""

    def __init__(self, name: str, expected: int) -> None:
        self.done = 0
        self._name, self._expected = name, expected
        self._live = sys.stderr.isatty()
        self._began = self._said = time.monotonic()

    def step(self, line: str) -> None:
        """One more."""
        self.done += 1
        now = time.monotonic()
        if now - self._said < (0.2 if self._live else _PROGRESS_S):
            return
        self._said = now
        of = f" of about {self._expected}" if self._expected > self.done else ""
        text = f"building {self._name}: {self.done}{of}, {now - self._began:.0f} s, {line[:40]}"
        if self._live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            tools.say(text)

    def end(self) -> None:
        """Leave the line."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _store(out: Path, place: Path, note: dict[str, object]) -> None:
    image = out / "arch/x86/boot/bzImage"
    with staged(place) as staging:
        shutil.copy(image, staging / "bzImage")
        shutil.copy(out / ".config", staging / "config")
        shutil.copy(out / "System.map", staging / "System.map")
        shutil.copy(out / "build.log", staging / "build.log")
        objcopy = [tools.need("objcopy"), "-O", "binary", "--only-section=.BTF"]
        objcopy += ["--set-section-flags", ".BTF=alloc,readonly"]
        tools.run([*objcopy, str(out / "vmlinux"), str(staging / "vmlinux.btf")])
        (staging / _NOTE).write_text(json.dumps(note | {"release": release_of(image)}, indent=1))
