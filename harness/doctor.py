# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow doctor`: would a run work here, and if not, which command repairs it.

Looks, and boots a probe guest where none has been booted yet; installs, fetches and builds nothing.
"""

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from harness import accel, build, setup, tools
from harness.errors import BpfthrowError, Exit, UsageError
from harness.kernels import catalogue, root, store
from harness.kernels.sources import debian_mirror
from harness.paths import cache_dir, make_dir
from harness.target import guests

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name

_DISTRIBUTION = "bpfthrow"
_CLANG_LEAST = 16  # declaration tags on functions and BPF v3 with all that libbpf wants
_SPACE_BYTES = 1 << 30
_TOOL_S = 30.0
# What is always there, however bad
_NEVER_MISSING = frozenset({"disk", "permissions"})
# purpose of packages that a run may do without -> what does not
_BESIDE = {"setup": "what is not set up yet", "test": "make test"}


class Status(StrEnum):
    """How one thing is."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    # not there, and a run does without it
    OPTIONAL = "optional"


# what a run does not work with
_BAD = frozenset({Status.MISSING, Status.WRONG})


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that a run, or something beside it, needs."""

    name: str
    status: Status
    detail: str
    # command that repairs it; "" where nothing is to be repaired
    repair: str = ""


def _first_line(argv: list[str]) -> str:
    return tools.run(argv, timeout_s=_TOOL_S).partition("\n")[0].strip()


def _packages() -> Iterator[Row]:
    """System packages, those that have a row of their own among them."""
    needed = ["run"] if _all_fetched() else ["run", "setup"]
    yield _packages_row("packages", needed, Status.MISSING)
    for purpose, what in _BESIDE.items():
        if purpose not in needed:
            name = f"packages ({purpose})"
            yield _packages_row(name, [purpose], Status.OPTIONAL, f"; only {what} needs it")


def _packages_row(name: str, purposes: list[str], absent: Status, note: str = "") -> Row:
    table = setup.packages(purposes)
    lost = setup.missing(table)
    if not lost:
        return Row(name, Status.OK, ", ".join(table))
    words = "; ".join(f"{package}: {why}" for package, why in lost.items())
    return Row(name, absent, words + note, " ".join(setup.install_command(lost)))


def _all_fetched() -> bool:
    """Whether a run on the default kernel finds all that would come from the mirror."""
    known = catalogue.load()
    return root.cached_root() is not None and store.newest_cached(known, known.default) is not None


def _qemu() -> Iterator[Row]:
    path = tools.need("qemu-system-x86_64")
    yield Row("QEMU", Status.OK, f"{_first_line([path, '--version'])} ({path})")


def _clang() -> Iterator[Row]:
    path = build.find_clang()
    line = _first_line([path, "--version"])
    match = re.search(r"version (\d+)", line)
    if match is None or int(match[1]) < _CLANG_LEAST:
        detail = f"{line}: {_CLANG_LEAST} or newer is needed"
        yield Row("clang", Status.WRONG, detail, " ".join(setup.install_command(["clang-19"])))
        return
    targets = tools.run([path, "--print-targets"], timeout_s=_TOOL_S)
    if not re.search(r"^\s*bpf\s", targets, re.MULTILINE):
        detail = f"{path} has no BPF target"
        yield Row("clang", Status.WRONG, detail, " ".join(setup.install_command(["clang-19"])))
        return
    yield Row("clang", Status.OK, f"{line} ({path})")


def _busybox() -> Iterator[Row]:
    path = Path(tools.need("busybox"))
    repair = " ".join(setup.install_command(["busybox-static"]))
    if setup.is_static(path):
        yield Row("busybox", Status.OK, f"static ({path})")
    else:
        detail = f"{path} needs libraries: it cannot start a guest"
        yield Row("busybox", Status.WRONG, detail, repair)


def numbers(version: str) -> tuple[int, ...]:
    """(1, 42) of "1.42.post1": what version comparisons here need."""
    return tuple(int(word) for word in re.findall(r"\d+", version.partition("+")[0])[:3])


def requirement_trouble(requirement: str, found: str | None) -> str:
    """What is wrong with an installed version ("" if nothing) for "name>=1.2"."""
    name, _, least = re.split(r"[;\s]", requirement, maxsplit=1)[0].partition(">=")
    if found is None:
        return f"{name} is missing"
    return f"{name} {found} is older than {least}" if numbers(found) < numbers(least) else ""


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Iterator[Row]:
    repair = "make setup"
    try:
        wanted = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        yield Row("Python packages", Status.MISSING, "bpfthrow is not installed", repair)
        return
    needed = [word for word in wanted if "extra ==" not in word]
    names = [re.split(r"[>=;\s]", word, maxsplit=1)[0] for word in needed]
    versions = [_installed(name) for name in names]
    troubles = [
        trouble
        for word, found in zip(needed, versions, strict=True)
        if (trouble := requirement_trouble(word, found))
    ]
    if troubles:
        yield Row("Python packages", Status.WRONG, "; ".join(troubles), repair)
        return
    listed = ", ".join(f"{name} {found}" for name, found in zip(names, versions, strict=True))
    here = f"Python {sys.version.split()[0]}: {listed}"
    yield Row("Python packages", Status.OK, here)


def _virtme() -> Iterator[Row]:
    beside = Path(sys.executable).with_name("virtme-run")
    path = str(beside) if beside.exists() else tools.find("virtme-run")
    if path is None:
        yield Row("virtme-ng", Status.MISSING, "virtme-run is not installed", "make setup")
        return
    done = subprocess.run([path, "--help"], capture_output=True, timeout=_TOOL_S, check=False)
    if done.returncode != 0:
        detail = f"{path} does not start: {done.stderr.decode(errors='replace').strip()[-200:]}"
        yield Row("virtme-ng", Status.WRONG, detail, "make distclean setup")
        return
    yield Row("virtme-ng", Status.OK, f"{_installed('virtme-ng') or 'unknown version'} ({path})")


def _virtme_configuration(file: Path = Path("/etc/virtme-ng.conf")) -> Iterator[Row]:
    """The machine's file is read by virtme-run; a user's own is not (private HOME)."""
    name = "virtme-ng.conf"
    if not file.exists():
        yield Row(name, Status.OK, f"no {file}")
        return
    try:
        table = json.loads(file.read_text())
        shares = table.get("systemd", {}).get("fstab", "/dev/null")
    except (OSError, ValueError, AttributeError) as error:
        detail = f"{file} stops virtme-run: {error}"
        yield Row(name, Status.WRONG, detail, f"sudo mv {file} {file}.off")
        return
    if shares != "/dev/null":
        detail = f"{file} adds shares to every guest (systemd.fstab: {shares})"
        yield Row(name, Status.WRONG, detail, f"take systemd.fstab out of {file}")
        return
    yield Row(name, Status.OK, f"{file} is there and changes nothing here")


def _kernels() -> Iterator[Row]:
    known = catalogue.load()
    cached = {kernel.name: kernel.release for kernel in store.cached(known)}
    words = ", ".join(f"{name}: {release}" for name, release in cached.items())
    absent = ", ".join(name for name in known.entries if name not in cached)
    detail = "; ".join(part for part in (words, absent and f"not fetched: {absent}") if part)
    if known.default in cached:
        yield Row("kernels", Status.OK, detail)
    else:
        yield Row("kernels", Status.MISSING, detail, f"bpfthrow kernels fetch {known.default}")


def _root() -> Iterator[Row]:
    built = root.cached_root()
    if built is None:
        yield Row("guest root", Status.MISSING, "not built for this recipe", "bpfthrow setup")
        return
    least = str(root.load_recipe()["libbpf_at_least"])
    words = f"bpftool {built.bpftool}, libbpf {built.libbpf} ({least} or newer needed)"
    yield Row("guest root", Status.OK, f"{words}, Python {built.python}")


def _mirror() -> Iterator[Row]:
    """Only where something has still to come from there."""
    if not _all_fetched():
        found = debian_mirror()
        yield Row("mirror", Status.OK, f"{found.uri}, verified with {found.keyring}")


def _disk() -> Iterator[Row]:
    free_bytes = shutil.disk_usage(make_dir(cache_dir())).free
    detail = f"{free_bytes >> 20} MB available in {cache_dir()}"
    if free_bytes < _SPACE_BYTES:
        wanted = f"{detail}, {_SPACE_BYTES >> 20} MB wanted"
        yield Row("disk", Status.WRONG, wanted, "bpfthrow kernels rm --unused")
    else:
        yield Row("disk", Status.OK, detail)


def _permissions() -> Iterator[Row]:
    places = [make_dir(cache_dir()), Path(tempfile.gettempdir()), guests.runtime_dir()]
    for place in places:
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            detail = f"{place} cannot be written: {error.strerror}"
            repair = "set XDG_CACHE_HOME (cache), TMPDIR or XDG_RUNTIME_DIR to one of your own"
            yield Row("permissions", Status.WRONG, detail, repair)
            return
    yield Row("permissions", Status.OK, f"{', '.join(map(str, places))} can be written")


def _accelerator(refresh: bool) -> Iterator[Row]:
    if not list(store.cached(catalogue.load())) and (refresh or accel.remembered() is None):
        detail = "no kernel in the cache to probe with"
        yield Row("accelerator", Status.MISSING, detail, "bpfthrow kernels fetch")
        return
    found = accel.probe(refresh=refresh)
    words = f"{found.name}: {found.reason} (guest up in {found.boot_s:.1f} s)"
    yield Row("accelerator", Status.OK, words)


_CHECKS: dict[str, Callable[[], Iterator[Row]]] = {
    "packages": _packages,
    "QEMU": _qemu,
    "clang": _clang,
    "busybox": _busybox,
    "Python packages": _python,
    "virtme-ng": _virtme,
    "virtme-ng.conf": _virtme_configuration,
    "disk": _disk,
    "permissions": _permissions,
    "mirror": _mirror,
    "kernels": _kernels,
    "guest root": _root,
}


def _checked(name: str, check: Callable[[], Iterator[Row]]) -> list[Row]:
    try:
        return list(check())
    except BpfthrowError as error:
        missing = isinstance(error, UsageError) and name not in _NEVER_MISSING
        status = Status.MISSING if missing else Status.WRONG
        return [Row(name, status, error.message, error.fix)]
    except (OSError, subprocess.SubprocessError) as error:
        return [Row(name, Status.WRONG, str(error), "make setup")]


def examine(*, refresh: bool = False) -> list[Row]:
    """Every row; `refresh` boots the probe guest again though its verdict is remembered."""
    checks = _CHECKS | {"accelerator": lambda: _accelerator(refresh)}
    return [row for name, check in checks.items() for row in _checked(name, check)]


def add_parser(subparsers: "Subparsers") -> None:
    """Add `doctor` to a parser."""
    what = "say whether a run would work here, and what repairs it"
    parser = subparsers.add_parser("doctor", help=what, description=what)
    parser.add_argument("--refresh", action="store_true", help="boot the probe guest again")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the rows; 0 if a run would work, else 2 as `run` would answer."""
    rows = examine(refresh=args.refresh)
    good = not any(row.status in _BAD for row in rows)
    if args.json:
        print(json.dumps({"ok": good, "checks": [asdict(row) for row in rows]}, indent=1))
    else:
        for row in rows:
            print(f"{row.status:8} {row.name:16} {row.detail}")
            if row.repair:
                print(f"{'':8} {'':16} repair: {row.repair}")
    return Exit.OK if good else Exit.USAGE
