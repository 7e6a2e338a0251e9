# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""External programs: where they are, running them, and what to say when they fail.

Argument lists only, never a shell. Which package brings a program is vm/packages.toml's business.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import ToolMissingError, WorldError

# depmod and mke2fs live where an ordinary user's PATH does not look.
_ALSO = "/usr/sbin:/sbin"


def find(name: str) -> str | None:
    """Absolute path of a program, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_ALSO}")


def need(name: str) -> str:
    """Absolute path of a program; UsageError that says how to get it."""
    path = find(name)
    if path is None:
        raise ToolMissingError(
            f"{name} is not installed", fix="make setup (installs what is missing)"
        )
    return path


def own(name: str) -> str:
    """Absolute path of a program that was installed with us (virtme-ng's), else as need()."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else need(name)


def run(
    argv: list[str],
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float | None = None,
    what: str = "",
    fix: str = "",
) -> str:
    """Standard output of a program. `env` is added to ours; messages are in English.

    WorldError that carries the program's own words when it fails, cannot start or takes too long.
    """
    what = what or f"{Path(argv[0]).name} failed"
    environment = os.environ | {"LC_ALL": "C.UTF-8"} | (env or {})
    try:
        code, out, err = _finish(argv, cwd, environment, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise WorldError(f"{what}: no end after {timeout_s:.0f} s", fix=fix) from error
    except OSError as error:
        raise WorldError(f"{what}: {argv[0]}: {error.strerror}", fix=fix) from error
    if code != 0:
        words = (err.strip() or out.strip()).splitlines()
        telling = _telling(words) or f"exit code {code}"
        raise WorldError(f"{what}: {telling}", fix=fix, evidence="\n".join(words))
    return out


# A process group of its own: dpkg-deb and apt have children, which must not outlive an interrupt.
def _finish(
    argv: list[str], cwd: Path | None, env: dict[str, str], timeout_s: float | None
) -> tuple[int, str, str]:
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err


# apt marks its errors, and its last one only counts the others; elsewhere the last line tells.
def _telling(words: list[str]) -> str:
    marked = [line.removeprefix("E: ") for line in words if line.startswith("E: ")]
    return (marked[:1] or words[-1:] or [""])[0]


_listeners: list[Callable[[str], None]] = []


def say(text: str) -> None:
    """One line of progress on standard error, or to whoever listens."""
    if _listeners:
        _listeners[-1](text)
    else:
        print(f"bpfthrow: {text}", file=sys.stderr, flush=True)


@contextmanager
def heard(listener: Callable[[str], None]) -> Iterator[None]:
    """Have `listener` called instead, from whatever thread: it draws on standard error itself."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
