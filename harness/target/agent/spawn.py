# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""bpftool as a child process: an argument list, a time limit, its words."""

import functools
import os
import pty
import re
import select
import subprocess
import time
import tty
from typing import NamedTuple

from harness.errors import WorldError
from harness.target.agent import memory

_LIMIT_S = 60.0
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"}
# what bpftool's batch mode would split or unquote
_PLAIN = re.compile(r"[^\s'\"\\]+")
# the last line of `bpftool version`
_MARK = b"features:"
_CHUNK_BYTES = 1 << 16


class Finished(NamedTuple):
    """How a child ended."""

    status: int
    stdout: str
    stderr: str


def bpftool(*arguments: str, limit_s: float = _LIMIT_S) -> Finished:
    """Run bpftool. Raises WorldError when it is missing or takes longer than `limit_s`."""
    argv = ["bpftool", *arguments]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
            env=_ENVIRONMENT,
        )
    except FileNotFoundError:
        raise WorldError(
            "the machine has no bpftool", fix="install bpftool with libbpf >= 1.3 there"
        ) from None
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")
        raise _late(arguments, limit_s, said) from None
    return Finished(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


def _late(arguments: tuple[str, ...], limit_s: float, said: str) -> WorldError:
    return WorldError(f"bpftool {' '.join(arguments)} took longer than {limit_s} s", evidence=said)


class Batch:
    """A bpftool that takes one command after the other: its start is a third of a load.

    It ends with the first command that fails (bpftool's batch mode), and is started anew.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._terminal = -1

    def start(self) -> None:
        """Start it now, not with the first command."""
        if self._process is not None:
            return
        # line by line only to a terminal, and its last line is how we know that it is done
        self._terminal, theirs = pty.openpty()
        tty.setraw(theirs)
        try:
            self._process = subprocess.Popen(
                ["bpftool", "batch", "file", "-"],
                stdin=subprocess.PIPE,
                stdout=theirs,
                stderr=subprocess.PIPE,
                env=_ENVIRONMENT | memory.ENVIRONMENT,
            )
        except FileNotFoundError:
            os.close(self._terminal)
            raise WorldError("the machine has no bpftool") from None
        finally:
            os.close(theirs)

    def run(self, *arguments: str, limit_s: float = _LIMIT_S) -> Finished:
        """As bpftool()."""
        if not all(map(_PLAIN.fullmatch, arguments)):
            return bpftool(*arguments, limit_s=limit_s)
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(f"{' '.join(arguments)}\nversion\n".encode())
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: its words and its status are read below
        out, err, ended = self._read(time.monotonic() + limit_s, arguments, limit_s)
        status = 0
        if ended:
            status = process.wait()
            self.close()
        return Finished(status, out.decode(errors="replace"), err.decode(errors="replace"))

    def _read(
        self, end_s: float, arguments: tuple[str, ...], limit_s: float
    ) -> tuple[bytes, bytes, bool]:
        assert self._process is not None
        assert self._process.stderr is not None
        pipe = self._process.stderr.fileno()
        said: dict[int, bytes] = {self._terminal: b"", pipe: b""}
        left = set(said)
        while left:
            ready, _, _ = select.select(left, [], [], max(0.0, end_s - time.monotonic()))
            if not ready:
                words = said[pipe].decode(errors="replace")
                self.close()
                raise _late(arguments, limit_s, words)
            for which in ready:
                piece = _read_some(which)
                said[which] += piece
                if not piece:
                    left.discard(which)
            if _MARK in said[self._terminal]:
                # standard error came first: all of it is in the pipe
                while select.select([pipe], [], [], 0)[0] and (piece := _read_some(pipe)):
                    said[pipe] += piece
                return said[self._terminal], said[pipe], False
        return said[self._terminal], said[pipe], True

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        os.close(self._terminal)
        process.kill()
        process.communicate()


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except OSError:
        return b""  # a terminal whose other side is closed gives EIO


@functools.cache
def batch() -> Batch:
    """The one of this process."""
    return Batch()


@functools.cache
def loader() -> str:
    """Name and version for a provenance: "bpftool v7.5.0 using libbpf v1.5"."""
    lines = bpftool("version").stdout.splitlines()
    return " ".join(line.strip() for line in lines[:2])
