# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Results as they arrive: one line each, flushed, so that a pipe sees the first one at once."""

import contextlib
from typing import TextIO

from harness.model import Result
from harness.report.outcome import Outcome, again, first_line, outcome, simulated_value, value
from harness.report.style import Style, style_for


class Progress:
    """Prints to `stream`; `total` results are to come (0: not known)."""

    def __init__(self, stream: TextIO, total: int = 0, style: Style | None = None) -> None:
        self._stream = stream
        self._total = total
        self._style = style or style_for(stream)
        self._done = 0

    def result(self, result: Result) -> None:
        """Print one result's line."""
        self._done += 1
        self._print(self._line(result))

    def note(self, text: str) -> None:
        """Print a line about the run itself: a boot, a retry."""
        self._print(f"# {text}")

    def _line(self, result: Result) -> str:
        kind = outcome(result)
        width = len(str(self._total))
        of = f"/{self._total}" if self._total else ""
        line = (
            f"{self._done:{width}}{of} {self._style.mark(kind)} {result.target} {result.case.id}"
            f" {result.case.hook}: kernel {value(result.observed, result.case.hook)},"
            f" simulator {simulated_value(result)}, {result.observed.duration_s * 1000:.0f} ms"
        )
        if result.again is not None:
            line += f" ({kind}: {again(result)})"
        elif kind is Outcome.DIFFER:
            line += f" ({result.differences[0].path})"
        elif kind is not Outcome.AGREE and result.observed.message:
            line += f" ({first_line(result.observed.message, 80)})"
        return self._style.paint(line, kind) if kind is not Outcome.AGREE else line

    def _print(self, line: str) -> None:
        if not self._style.unicode:
            line = line.encode("ascii", "replace").decode()
        # a reader that went away (head, a closed terminal) must not end the run
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(line + "\n")
            self._stream.flush()
