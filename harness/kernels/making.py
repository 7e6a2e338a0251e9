# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One run of make: its progress, its log, its first error, and its end when we are ended.

Owns what a build that was interrupted leaves behind. Does not know what is built, or where a
finished kernel goes.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import tools
from harness.errors import UsageError, WorldError

_STEP = re.compile(r"^  [A-Z]+[A-Z0-9_]* ")
_ERROR = re.compile(r"error:|undefined reference|No rule to make|^make.*\*\*\*|: fatal ")
# in the tree: what was generated beside it has a path of its own
_AT = re.compile(r"([^/\s:][^\s:]*):(\d+):(?:\d+:)? ")
# what programs say of ENOSPC, in LC_ALL=C
_FULL = "No space left on device"
_PROGRESS_S = 30.0
# there while make runs
_MARK = "compiling"
# what was written so shortly before the end of a build that nobody could end may be half a file
_DOUBTFUL_S = 60.0
_KEPT = (".config", "configured", "steps", _MARK)


class CompileError(UsageError):
    """Code that does not compile: `first` is the first error, as the compiler wrote it."""

    def __init__(self, name: str, first: str, log: Path) -> None:
        super().__init__(f"{name} does not compile: {first}", fix=f"the whole log: {log}")
        self.first = first

    def place(self) -> tuple[str, int]:
        """File of the source and line; "" and 0 where the error is in none."""
        found = _AT.match(self.first)
        return (found[1], int(found[2])) if found else ("", 0)


def compile_kernel(argv: list[str], out: Path, tree: Path, name: str, held: int) -> float:
    """Run a make that compiles `tree` into `out`; seconds that it took.

    Its output is in OUT/NAME.log. `held`: descriptor of the lock, which is held as long as any of
    the compilers lives. CompileError: code that does not compile. WorldError: no room on the disk;
    what may be half a file is made anew next time.
    """
    log = out / f"{name}.log"
    _mend(out)
    (out / _MARK).touch()
    began = time.monotonic()
    progress = _Progress(name, _steps(out))
    with log.open("w", buffering=1) as lines, _make(argv, held) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.write(line)
            if _STEP.match(line):
                progress.step(line.strip().replace(f"{out}/", "").replace(f"{tree}/", ""))
    progress.end()
    if process.returncode and _FULL in log.read_text(errors="replace"):
        raise WorldError(
            f"no room on the disk for {name}",
            fix=f"make some where {out} is, and build again: what is compiled stays",
        )
    (out / _MARK).unlink()
    if process.returncode:
        raise CompileError(name, first_error(log, tree), log)
    if progress.done > _steps(out):
        (out / "steps").write_text(str(progress.done))
    return time.monotonic() - began


@contextmanager
def _make(argv: list[str], held: int) -> Iterator["subprocess.Popen[str]"]:
    """Compile in a process group of its own, ended with us; what it has compiled stays good."""
    # make hears of our end even when we are killed; it removes what is half written
    setpriv = tools.find("setpriv")
    process = subprocess.Popen(
        [*([setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
        pass_fds=(held,),
        # reproducible, and nothing of this machine in the image
        env=os.environ
        | {"LC_ALL": "C", "KBUILD_BUILD_USER": "bpfthrow", "KBUILD_BUILD_HOST": "bpfthrow"},
    )
    try:
        yield process
        process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        assert process.stdout is not None
        process.stdout.close()


def _mend(out: Path) -> None:
    """After a build that could not end: remove what it may have been writing.

    make takes a file that is newer than its sources for a good one, half of it too.
    """
    if not (out / _MARK).exists():
        return
    files = [path for path in out.rglob("*") if path.is_file() and not path.is_symlink()]
    changed = {path: path.stat().st_mtime for path in files if path.name not in _KEPT}
    newest = max(changed.values(), default=0.0)
    for path, when in changed.items():
        if when > newest - _DOUBTFUL_S and path.suffix != ".log":
            path.unlink()


def _steps(out: Path) -> int:
    try:
        return int((out / "steps").read_text())
    except (OSError, ValueError):
        return 0


def first_error(log: Path, tree: Path) -> str:
    """The first line of a log that tells why make failed, with paths as the tree has them."""
    for line in log.read_text(errors="replace").splitlines():
        if _ERROR.search(line):
            return line.strip().replace(f"{tree}/", "")
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
