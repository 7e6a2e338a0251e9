# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel log from the last position on. Says nothing about what a line means."""

import os
from contextlib import suppress
from pathlib import Path

# A report of its own, cut out like the kernel's: it must be found (vm/splats.toml) wherever it is.
_OVERRAN = (
    "------------[ cut here ]------------\n"
    "[?] the kernel log overran: records were lost\n"
    "---[ end trace ]---\n"
)
_CLEAR_ONCE = Path("/sys/kernel/debug/clear_warn_once")


class KernelLog:
    """A reader of /dev/kmsg. Opening one starts at the end of the log."""

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)
        # whether a warning may have spoken since the last arm()
        self._spoke = True

    def arm(self, switch: Path = _CLEAR_ONCE) -> None:
        """Let WARN_ONCE speak again, so that each guilty case shows its splat, not only the first.

        Nothing happens where nothing was said since, where debugfs is not mounted or (lockdown)
        not for us.
        """
        if not self._spoke:
            return
        self._spoke = False
        with suppress(FileNotFoundError, PermissionError):
            fd = os.open(switch, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"1")
            finally:
                os.close(fd)

    def window(self) -> str:
        """Lines since the last call, each as "[seconds] text", continuation lines joined in."""
        lines: list[str] = []
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return "".join(lines)
            except BrokenPipeError:
                self._spoke = True
                lines.append(_OVERRAN)
                continue
            if not record:
                return "".join(lines)
            self._spoke = True
            lines.append(_render(record))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def _render(record: bytes) -> str:
    head, _, text = record.decode(errors="replace").partition(";")
    # further lines of a record (" SUBSYSTEM=...") are structured data, not text
    line = text.split("\n", 1)[0]
    stamp_us = int(head.split(",")[2])
    return f"[{stamp_us / 1e6:12.6f}] {line}\n"
