# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stage 0 of the set-up: system packages, then the virtual environment in the checkout.

Standard library only, and no import of harness: the machine's own python3 runs this file, before
there is anything else (`python3 -I harness/setup.py [PURPOSE]...`). Kernels and the guest root come
after it: `bpfthrow setup`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_LEAST = (3, 11)
_PYTHONS = ("python3.13", "python3.12", "python3.11", "/usr/bin/python3")
# purpose -> extra of pyproject.toml
_EXTRAS = {
    "run": "test",
    "test": "test",
    "lint": "lint",
    "build": "test",
    "fuzz": "fuzz",
    "exhaustive": "exhaustive",
}
CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"


class SetupError(Exception):
    """Something that this machine's owner has to do; the text says what and how."""


def say(text: str) -> None:
    """One line of progress on standard error."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def has(what: str) -> bool:
    """Whether one thing of a `has` list is there: a path, python:MODULE, env:VARIABLE with the name
    of a program, [static:]PROGRAM, or PROGRAM>=VERSION.
    """
    if what.startswith("/"):
        return Path(what).exists()
    if what.startswith("python:"):
        return importlib.util.find_spec(what.partition(":")[2]) is not None
    kind, _, name = what.rpartition(":")
    name, _, least = name.partition(">=")
    name = os.environ.get(name, "") if kind == "env" else name
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None or (kind == "static" and not is_static(Path(found))):
        return False
    return not least or _major_version(found) >= int(least)


# 0 where it does not say
def _major_version(program: str) -> int:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    said = re.search(r"version (\d+)", done.stdout)
    return int(said[1]) if said else 0


def is_static(program: Path) -> bool:
    """Whether a 64-bit ELF program asks for no loader (no PT_INTERP among its first headers)."""
    with program.open("rb") as file:
        head = file.read(4096)
    start, size = (int.from_bytes(head[at : at + n], "little") for at, n in ((32, 8), (54, 2)))
    count = int.from_bytes(head[56:58], "little")
    kinds = [head[start + i * size : start + i * size + 4] for i in range(count)]
    return head[:4] == b"\x7fELF" and b"\3\0\0\0" not in kinds


def packages(purposes: Iterable[str], file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Package name -> {"has": [...], "why": ...} for some purposes of vm/packages.toml."""
    import tomllib  # noqa: PLC0415  # an old interpreter gets as far as the message about it

    file = file or CHECKOUT / "vm/packages.toml"
    table = tomllib.loads(file.read_text())
    return {name: row for purpose in purposes for name, row in table[purpose].items()}


def missing(table: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Package name -> what it is for, of those that are not there."""
    return {
        name: row["why"] for name, row in table.items() if not any(has(what) for what in row["has"])
    }


def install_command(names: Iterable[str]) -> list[str]:
    """The command that installs packages on this machine, for whoever runs it."""
    argv = ["apt-get", "install", "-y", "--no-install-recommends", *names]
    return argv if os.geteuid() == 0 else ["sudo", *argv]


def _may_install() -> bool:
    if shutil.which("apt-get") is None:
        return False
    if os.geteuid() == 0:
        return True
    if shutil.which("sudo") is None:
        return False
    if sys.stdin.isatty():
        return True  # sudo asks for a password
    return subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0


def _apt_get(*arguments: str) -> bool:
    quiet = ("-q", "-oDpkg::Use-Pty=0")
    settings = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *quiet, *arguments]
    argv = settings if os.geteuid() == 0 else ["sudo", *settings]
    # apt's own output is progress; standard output belongs to whoever runs make
    return subprocess.run(argv, stdout=sys.stderr, check=False).returncode == 0


def _install(names: list[str]) -> bool:
    arguments = ("install", "-y", "--no-install-recommends", *names)
    # lists that are old or absent are the usual reason for a failure
    return _apt_get(*arguments) or (_apt_get("update") and _apt_get(*arguments))


def ensure_packages(purposes: Iterable[str]) -> None:
    """Install the system packages that are missing; SetupError that says how where it cannot."""
    table = packages(purposes)
    lost = missing(table)
    if not lost:
        return
    say(f"installing {', '.join(lost)}")
    if _may_install() and _install(list(lost)):
        importlib.invalidate_caches()
        lost = missing(table)
    if lost:
        wanted = "".join(f"\n  {name}: {why}" for name, why in lost.items())
        command = " ".join(install_command(lost))
        raise SetupError(
            f"these packages are missing:{wanted}\nrun this, then try again: {command}"
        )


# What the environment was made from: it is made again when this changes. The extras come last.
def _stamp(extras: Iterable[str]) -> str:
    digest = hashlib.sha256((CHECKOUT / "pyproject.toml").read_bytes()).hexdigest()
    return f"{digest}{_place()}{','.join(extras)}"


# A virtual environment works in its place and with its Python only.
def _place() -> str:
    return f" {CHECKOUT} {sys.version_info[:2]} "


def _make_venv(last: str) -> None:
    whole = (VENV / "bin/python").exists() and (VENV / "bin/pip").exists()
    if whole and (not last or _place() in last):
        return
    say(f"making the virtual environment {VENV}")
    argv = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if subprocess.run(argv, check=False).returncode != 0:
        raise SetupError(f"cannot make {VENV}\ncheck that {sys.executable} -m venv works")


def ensure_venv(purposes: Iterable[str]) -> None:
    """.venv with the project and its dependencies, installed by pip as the machine configures it.

    Nothing is done when pyproject.toml, the extras, the place and Python are those of last time.
    """
    stamp = VENV / ".stamp"
    last = stamp.read_text() if stamp.is_file() else ""
    # once installed, extras stay
    before = set(last.rpartition(" ")[2].split(",")) & set(_EXTRAS.values())
    wanted = _stamp(sorted(before | {_EXTRAS[purpose] for purpose in purposes}))
    if (VENV / "bin/bpfthrow").exists() and wanted == last:
        return
    _make_venv(last)
    extras = wanted.rpartition(" ")[2]
    say(f"installing bpfthrow[{extras}] and its dependencies with pip")
    stamp.unlink(missing_ok=True)
    argv = [str(VENV / "bin/python"), "-m", "pip", "install", "-q", "-e", f".[{extras}]"]
    # a plain path instead of a finder, which costs every start of Python 10 ms
    argv += ["--config-settings", "editable_mode=compat"]
    # pip counts on a terminal's width and colours; its standard output belongs to make's caller
    if subprocess.run(argv, cwd=CHECKOUT, stdout=sys.stderr, check=False).returncode != 0:
        raise SetupError(
            "pip could not install the dependencies (see above)\n"
            "check the network and pip's configuration: python3 -m pip config list"
        )
    # where PYTHONDONTWRITEBYTECODE is set, every command would compile all that it imports
    compiling = [str(VENV / "bin/python"), "-m", "compileall", "-q", "harness"]
    subprocess.run(compiling, cwd=CHECKOUT, stdout=sys.stderr, check=False)
    stamp.write_text(wanted)


def _use_newer_python() -> None:
    if sys.version_info >= _LEAST:
        return
    for name in _PYTHONS:
        path = shutil.which(name)
        check = f"import sys; sys.exit(sys.version_info < {_LEAST})"
        if not path:
            continue
        # quietly: a shim of pyenv's is there even if its Python is not
        done = subprocess.run([path, "-c", check], capture_output=True, check=False)
        if done.returncode == 0:
            os.execv(path, [path, "-I", __file__, *sys.argv[1:]])  # noqa: S606
    raise SetupError(
        f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}\n"
        "apt-get install python3 python3-venv, or make PYTHON=/path/to/a/newer/python3"
    )


def _purposes(arguments: list[str]) -> list[str]:
    unknown = [word for word in arguments if word not in _EXTRAS]
    if unknown:
        raise SetupError(f"unknown purpose {unknown[0]!r}: one of {', '.join(_EXTRAS)}")
    return ["run", *(word for word in arguments if word != "run")]


def main(arguments: list[str]) -> int:
    """Do what is missing for the purposes named ("run" if none); 0, or 2 with a message."""
    try:
        _use_newer_python()
        purposes = _purposes(arguments)
        ensure_packages(["setup", *purposes])
        ensure_venv(purposes)
    except SetupError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
