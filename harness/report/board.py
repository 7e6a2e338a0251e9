# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Progress of all targets of a run, in one place: a block of lines that stays at the bottom of a
terminal, or plain lines as things happen where there is none.

Owns how it looks. What happens is told from one thread; notes may come from any.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TextIO

from harness.model import Result
from harness.report.outcome import FAILURES, Outcome, outcome
from harness.report.progress import Progress
from harness.report.style import Style, style_for

_BAR = 16
# what a screen shows of it at most ten times a second
_INTERVAL_S = 0.1
# lines of the screen that are not ours
_ABOVE = 3


@dataclass(frozen=True, slots=True)
class Expected:
    """What is to come."""

    # by spec, in the order of the command line: seconds it is likely to take, None: not known
    targets: Mapping[str, float | None]
    # on each target
    cases: int
    # how many targets run side by side
    at_once: int


class Display(Protocol):
    """Hears what happens in a run."""

    def note(self, text: str) -> None:
        """A line about the run itself."""

    def begin(self, spec: str) -> None:
        """A target has been started."""

    def result(self, spec: str, result: Result) -> None:
        """A case has ended."""

    def end(self, spec: str) -> None:
        """All cases of a target have ended."""

    def tick(self) -> None:
        """Nothing has happened for a while."""

    def close(self) -> None:
        """The run has ended."""


def display(stream: TextIO, expected: Expected, *, quiet: bool = False) -> Display:
    """A block on a terminal, else lines; with `quiet` the notes only."""
    if quiet or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return Lines(stream, expected, quiet=quiet)
    return Board(stream, expected)


class Lines:
    """A line for each case, and where there are several targets for the end of each."""

    def __init__(self, stream: TextIO, expected: Expected, *, quiet: bool = False) -> None:
        self._progress = Progress(stream, expected.cases * len(expected.targets))
        self._tallies = {spec: _Tally() for spec in expected.targets}
        self._quiet = quiet
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        with self._lock:
            self._progress.note(text)

    def begin(self, spec: str) -> None:
        self._tallies[spec].began_s = time.monotonic()

    def result(self, spec: str, result: Result) -> None:
        self._tallies[spec].add(result)
        if not self._quiet:
            with self._lock:
                self._progress.result(result)

    def end(self, spec: str) -> None:
        tally = self._tallies[spec]
        tally.ended_s = time.monotonic()
        if len(self._tallies) > 1 and not self._quiet:
            self.note(f"{_label(spec)} has ended: {tally.text()}, {tally.seconds():.0f} s")

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


class Board:
    """A line for each target and one for all, drawn anew in place; failures scroll by above."""

    def __init__(
        self,
        stream: TextIO,
        expected: Expected,
        *,
        style: Style | None = None,
        size: Callable[[], os.terminal_size] = shutil.get_terminal_size,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._expected = expected
        self._style = style or style_for(stream)
        self._size = size
        self._clock = clock
        self._began_s = clock()
        self._drawn_s = float("-inf")
        # lines of ours that are on the screen
        self._shown = 0
        self._tallies = {spec: _Tally() for spec in expected.targets}
        self._progress = Progress(stream, 0, self._style)
        self._lock = threading.RLock()

    def note(self, text: str) -> None:
        with self._lock:
            self._above(lambda: self._progress.note(text))

    def begin(self, spec: str) -> None:
        self._tallies[spec].began_s = self._clock()
        self._draw(now=True)

    def result(self, spec: str, result: Result) -> None:
        with self._lock:
            self._tallies[spec].add(result)
            if outcome(result) in FAILURES or outcome(result) is Outcome.LOST:
                self._above(lambda: self._progress.result(result))
            self._draw()

    def end(self, spec: str) -> None:
        self._tallies[spec].ended_s = self._clock()
        self._draw(now=True)

    def tick(self) -> None:
        self._draw(now=True)

    def close(self) -> None:
        """Take the block away: the report says it all again."""
        with self._lock:
            self._write(self._erasure())
            self._shown = 0

    def _above(self, write: Callable[[], None]) -> None:
        self._write(self._erasure())
        self._shown = 0
        write()
        self._draw(now=True)

    def _draw(self, *, now: bool = False) -> None:
        with self._lock:
            at_s = self._clock()
            if not now and at_s - self._drawn_s < _INTERVAL_S:
                return
            self._drawn_s = at_s
            lines = self._lines()
            self._write(self._erasure() + "".join(f"{line}\n" for line in lines))
            self._shown = len(lines)

    def _erasure(self) -> str:
        # up to the first of our lines, and clear the screen from there on
        return f"\x1b[{self._shown}F\x1b[J" if self._shown else ""

    def _write(self, text: str) -> None:
        if not self._style.unicode:
            text = text.encode("ascii", "replace").decode()
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(text)
            self._stream.flush()

    def _lines(self) -> list[str]:
        width, height = self._size()
        specs = list(self._tallies)
        room = max(1, height - _ABOVE)
        hidden = 0
        if len(specs) > room:
            # those that run are worth a line
            busy = sorted(specs, key=lambda spec: self._tallies[spec].state != "runs")
            keep = set(busy[:room])
            hidden, specs = len(specs) - room, [spec for spec in specs if spec in keep]
        wide = max(len(_label(spec)) for spec in specs)
        rows = [self._row(spec, wide, width - 1) for spec in specs]
        return [*rows, self._total(hidden)[: width - 1]]

    def _row(self, spec: str, wide: int, width: int) -> str:
        tally, cases = self._tallies[spec], self._expected.cases
        done = tally.done / cases if cases else 0.0
        full, empty = ("█", "░") if self._style.unicode else ("#", ".")
        filled = round(done * _BAR)
        digits = len(str(cases))
        text = (
            f"{_label(spec):{wide}}  {full * filled}{empty * (_BAR - filled)}"
            f"  {tally.done:{digits}}/{cases}  "
        )
        text += {"waits": "waits", "ended": f"{tally.text()}, {tally.seconds():.0f} s"}.get(
            tally.state, f"{tally.text() if tally.done else 'starts'}  {tally.last}"
        )
        text = text[:width].rstrip()
        return self._style.paint(text, tally.worst) if tally.worst else text

    def _total(self, hidden: int) -> str:
        cases = self._expected.cases * len(self._tallies)
        done = sum(tally.done for tally in self._tallies.values())
        spent_s = self._clock() - self._began_s
        left_s = remaining_s(
            {spec: self._left_s(spec) for spec in self._tallies}, self._expected.at_once
        )
        left = f", about {_clock_text(left_s)} left" if left_s else ""
        more = f"; {hidden} more targets" if hidden else ""
        return f"{done}/{cases} after {_clock_text(spent_s)}{left}{more}"

    def _left_s(self, spec: str) -> float | None:
        tally = self._tallies[spec]
        expected_s = self._expected.targets[spec]
        cases = self._expected.cases
        if tally.ended_s:
            return 0.0
        share = tally.done / cases if cases else 1.0
        if tally.done >= min(20, cases):  # what is seen beats what was
            return (self._clock() - tally.began_s) * (1 - share) / share
        return None if expected_s is None else expected_s * (1 - share)


def remaining_s(left: Mapping[str, float | None], at_once: int) -> float | None:
    """Seconds until all have ended, `at_once` of them side by side; None while one is unknown."""
    known = [seconds for seconds in left.values() if seconds is not None]
    if len(known) < len(left):
        return None
    return max([sum(known) / max(1, at_once), *known])


class _Tally:
    """What came of one target so far."""

    def __init__(self) -> None:
        self.began_s = 0.0
        self.ended_s = 0.0
        self.done = 0
        # "ID [HOOK]" of the newest result
        self.last = ""
        # of the results that count as failures
        self.worst: Outcome | None = None
        self._counts: dict[Outcome, int] = {}

    @property
    def state(self) -> str:
        if self.ended_s:
            return "ended"
        return "runs" if self.began_s else "waits"

    def add(self, result: Result) -> None:
        kind = outcome(result)
        self.done += 1
        self.last = f"{result.case.id} [{result.case.hook}]"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if kind in FAILURES or kind is Outcome.LOST:
            self.worst = kind

    def text(self) -> str:
        always = (Outcome.AGREE, Outcome.DIFFER)
        kinds = [kind for kind in Outcome if kind in always or kind in self._counts]
        return ", ".join(f"{self._counts.get(kind, 0)} {kind}" for kind in kinds)

    def seconds(self) -> float:
        return self.ended_s - self.began_s


def _label(spec: str) -> str:
    return spec.removeprefix("vm:")


def _clock_text(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
