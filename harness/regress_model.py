# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What comparing two kernels is about: the two sides, and what changed between them.

Frozen records, no behaviour beyond looking things up.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.loadstats import Statistics
from harness.model import Observation, Verdict

# A count of the verifier is worth a word from this growth on.
STATISTICS_PERCENT = 10.0
# A case's duration, emulated on a busy machine, from this factor on.
DURATION_FACTOR = 3.0


class Effect(StrEnum):
    """What a change means, worst first."""

    REGRESSION = "regression"
    WARNING = "warning"
    CHANGE = "change"
    IMPROVEMENT = "improvement"


class Kind(StrEnum):
    """What changed. The names are those of --fail-on."""

    VERDICT = "verdict"
    VALUE = "value"  # return values; on live hooks, what the wire showed
    MEMORY = "memory"  # the frame, maps and globals afterwards
    JUDGEMENT = "judgement"  # the same was seen, but it agrees on one kernel only
    ERRNO = "errno"
    MESSAGE = "message"
    SPLAT = "splat"
    LEAK = "leak"
    STATISTICS = "statistics"
    DURATION = "duration"


@dataclass(frozen=True, slots=True)
class Entry:
    """One case on one kernel, live or from a file."""

    id: str
    hook: str
    # path of the object, for the replay command
    object: str
    observed: Observation
    # a verdict was reached and nothing differed from it
    agree: bool
    # the first difference in words; "" where all agreed
    difference: str = ""
    # failed, and did not when tried again
    flaky: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same case on another kernel."""
        return self.id, self.hook


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two kernels, with what was seen on it."""

    # as it was asked for: "7.3", "build:mine", "run.json@vm-6.12"
    name: str
    # release, accelerator, JIT and loader, those that are known
    facts: str
    entries: Mapping[tuple[str, str], Entry]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was."""

    kind: Kind
    effect: Effect
    # "verdict", "retvals[0]", "maps.hits[00000000]", "instructions"
    what: str
    base: str
    patched: str
    why: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One case on both kernels."""

    base: Entry
    patched: Entry
    changes: tuple[Change, ...]
    # of one case of each program, where both logs have them
    statistics: tuple[Statistics, Statistics] | None = None

    @property
    def effect(self) -> Effect | None:
        """That of its worst change."""
        return next((e for e in Effect if any(c.effect is e for c in self.changes)), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything about the two kernels."""

    base: Side
    patched: Side
    compared: tuple[Compared, ...]
    # cases without an answer on one of the two: (id, hook, why)
    left_out: tuple[tuple[str, str, str], ...] = ()

    @property
    def lost(self) -> bool:
        """Whether a lost machine hides what some case would have shown."""
        sides = itertools.chain(self.base.entries.values(), self.patched.entries.values())
        return any(entry.observed.verdict is Verdict.LOST for entry in sides)

    def having(self, effect: Effect | None) -> tuple[Compared, ...]:
        """Cases of which the worst change has this effect; None: nothing changed."""
        return tuple(each for each in self.compared if each.effect is effect)


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts, beyond the table of docs/compare.md."""

    # kinds of which every change for the worse, or sideways, counts as a regression
    fail_on: frozenset[Kind] = frozenset()
    statistics_percent: float = STATISTICS_PERCENT
    duration_factor: float = DURATION_FACTOR
