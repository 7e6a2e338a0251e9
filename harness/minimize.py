# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Shrink a program while somebody says that it is still the same.

Owns the search: the order of steps, when to stop, the smallest one so far. Two are asked: a scout,
who answers at once and may not know, and a judge, whose word counts. What the scout takes for the
same is tried further at once, and the judge is asked at the end of each step; where he disagrees,
the step is done again with his answer to everything. Steps are harness.minimize_steps'.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from harness.bpf.btfext import Line
from harness.bpf.declare import Unit
from harness.bpf.writeelf import write_object
from harness.errors import UsageError
from harness.minimize_draft import Draft, unit_from

_LINE = Line("small.bpf.s", 1, "")
# whether an object is still the same
Judge = Callable[[bytes], bool]
# the same, or None: it does not know
Scout = Callable[[bytes], bool | None]
Step = Callable[["Search"], None]


class EnoughError(Exception):
    """The tries or the time are used up. Never leaves this module."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One row of the history: what a step left."""

    step: str
    instructions: int
    functions: int
    # candidates so far, and how many of them the judge was asked about
    tries: int
    asked: int


@dataclass(slots=True)
class Search:
    """One search; `best` is the smallest that is the same, as far as is known."""

    best: Draft
    judge: Judge
    scout: Scout
    most_tries: int
    # time.monotonic() at which to end
    until: float
    progress: Callable[["Search"], None] = lambda _search: None
    tries: int = 0
    asked: int = 0
    history: list[Moment] = field(default_factory=list)
    # what the judge has confirmed last
    confirmed: Draft | None = None
    # whether the search ended by itself
    complete: bool = False
    # ask the judge about everything
    _careful: bool = False
    _known: dict[str, bool] = field(default_factory=dict)

    def better(self, candidate: Draft) -> bool:
        """Take the candidate if it is the same. EnoughError when tries or time are used up."""
        data = object_of(candidate)
        if data is None or candidate == self.best:
            return False
        if data == object_of(self.best):
            self.best = candidate  # another way to say it
            return False
        key = hashlib.sha256(data).hexdigest()
        if key not in self._known:
            if self.tries >= self.most_tries or time.monotonic() > self.until:
                raise EnoughError
            self.tries += 1
            self._known[key] = self._is_same(candidate, data)
        if self._known[key]:
            self.best = candidate
        self.progress(self)
        return self._known[key]

    def _is_same(self, candidate: Draft, data: bytes) -> bool:
        guessed = self.scout(data)
        if guessed is False or (guessed and not self._careful):
            return guessed
        same = self._ask(data)
        if same:
            self.confirmed = candidate
        return same

    def any_of(self, candidates: Iterable[Draft]) -> bool:
        """Take the first of the candidates that is the same."""
        return any(self.better(candidate) for candidate in candidates)

    def run(self, steps: dict[str, Step]) -> Draft:
        """Go through the steps until none of them finds anything; the smallest, confirmed.

        KeyboardInterrupt passes through: `confirmed` is the smallest one then.
        """
        self.confirmed = self.confirmed or self.best
        try:
            while True:
                before = self.best
                for name, step in steps.items():
                    self._do(name, step)
                if self.best == before:
                    self.complete = True
                    break
        except EnoughError:
            self._settle()
        return self.confirmed

    def _do(self, name: str, step: Step) -> None:
        start = self.best
        step(self)
        if self.best == start:
            return
        if not self._settle():
            self._careful = True
            self._known = {key: same for key, same in self._known.items() if not same}
            try:
                step(self)
            finally:
                self._careful = False
            self._settle()
        found = self.best
        row = Moment(name, found.size, len(found.bodies), self.tries, self.asked)
        self.history.append(row)

    def _settle(self) -> bool:
        """Have the judge confirm the best one; else go back to the one that he confirmed last."""
        data = object_of(self.best)
        if self.best == self.confirmed or (data is not None and self._ask(data)):
            self.confirmed = self.best
            return True
        assert self.confirmed is not None
        self.best = self.confirmed
        return False

    def _ask(self, data: bytes) -> bool:
        self.asked += 1
        return self.judge(data)


def object_of(draft: Draft) -> bytes | None:
    """The draft as an object file; None for one that cannot be put together.

    Each function has a line at its start and none behind: a kernel that is given any wants that
    one, and libbpf complains where there is none.
    """
    unit = unit_from(draft)
    if unit is None:
        return None
    lines = {function.start: _LINE for function in unit.program.functions}
    return bytes_of(replace(unit, program=replace(unit.program, lines=lines)))


def bytes_of(unit: Unit) -> bytes | None:
    """A unit as an object file; None for one that no object can hold."""
    try:
        return write_object(unit.program, declared=unit.declared)
    except UsageError:
        return None
