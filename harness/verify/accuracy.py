# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model held against what cases claim: right, wrong and unknown, for each series.

What a case claims is its tags' (harness.suite), which kernels were booted to check; the model
never sees them. A case that may take a kernel down claims what the kernel should do: there the
model is right, too, if it names the bug.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from harness.bpf.elf import Object, read_object
from harness.bpf.environment import NOWHERE, Environment
from harness.logmatch import may_show, missing
from harness.model import Case, Companion, Expectation
from harness.model import Verdict as Seen
from harness.series import SERIES
from harness.sim import semantics
from harness.verify import loading, statewords
from harness.verify.attach import Onto
from harness.verify.explore import explore
from harness.verify.predict import DEFAULT_BUDGET, predict
from harness.verify.prediction import (
    Explored,
    NotModelled,
    Prediction,
    Rejection,
    Subject,
    Verdict,
)

_EXPRESSION = re.compile(r"\{\{.*?\}\}")
_THROW = "throw"
# the model takes a JIT for granted
_NO_JIT = "no-jit"
_NONE: Mapping[str, Environment] = {}
# of Loading.log_level: what is known before each instruction
_STATES = 2
# BPF_F_STRICT_ALIGNMENT and BPF_F_ANY_ALIGNMENT
_OTHER_RULES = 3
_WANTED = {Seen.RAN: Verdict.ACCEPT, Seen.REJECTED: Verdict.REJECT}


class Outcome(StrEnum):
    """How a prediction compares with a claim."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judged:
    """One program on one series."""

    case: Case
    series: str
    claim: Expectation
    prediction: Prediction
    outcome: Outcome
    # what the model took, seconds
    duration_s: float
    # claims about registers that no state of the model fulfils
    unseen: tuple[str, ...] = ()

    @property
    def throws(self) -> bool:
        """Whether the program needs exceptions."""
        return _THROW in self.case.needs

    def __str__(self) -> str:
        found = self.prediction
        claimed = ", ".join(self.unseen or self.claim.messages) or _wanted(self.claim)
        return (
            f"{self.case.id} on {self.series}: claimed {claimed}; predicted {found.verdict} "
            f"{found.message or found.why} (errno {found.errno}, instruction {found.pc})"
        )


@dataclass(frozen=True, slots=True)
class Count:
    """How many programs came out which way."""

    right: int
    wrong: int
    unknown: int

    @property
    def decided(self) -> float:
        """Share of programs with an answer, 0 to 1."""
        total = self.right + self.wrong + self.unknown
        return (self.right + self.wrong) / total if total else 1.0


def measure(
    cases: Iterable[Case],
    series: Sequence[str] = SERIES,
    kernels: Mapping[str, Environment] = _NONE,
) -> list[Judged]:
    """Judge each program of the cases once for each series. Raises ObjectError.

    `kernels`: series -> what libbpf would learn of its kernel. Cases of machines whose JIT is
    off are left out, and those that no kernel is tried with.
    """
    programs: dict[tuple[str, str, tuple[Companion, ...]], Case] = {}
    for case in cases:
        if _NO_JIT in case.needs or case.unsupported or case.loading.flags & _OTHER_RULES:
            continue
        programs.setdefault((case.object, case.program, case.companions), case)
    objects = {case.object: read_object(case.object) for case in programs.values()}
    return [
        judge(objects[case.object], case, name, kernels.get(name, NOWHERE))
        for case in programs.values()
        for name in series
    ]


def judge(obj: Object, case: Case, series: str, kernel: Environment = NOWHERE) -> Judged:
    """One program on one series."""
    claim = dict(case.per_series).get(series, case.expectation)
    started = time.perf_counter()
    found = _predict(obj, case, series, kernel)
    duration_s = time.perf_counter() - started
    outcome = _outcome(case, claim, found)
    unseen: tuple[str, ...] = ()
    if outcome is Outcome.RIGHT and case.loading.log_level & _STATES:
        unseen = _unseen(obj, case, claim, series, kernel)
    outcome = Outcome.WRONG if unseen else outcome
    return Judged(case, series, claim, found, outcome, duration_s, unseen)


def _unseen(
    obj: Object, case: Case, claim: Expectation, series: str, kernel: Environment
) -> tuple[str, ...]:
    """What a case claims of registers in the log and the model does not know."""
    claims = [each for each in claim.messages if statewords.is_claim(each)]
    if not claims:
        return ()
    profile, explored = semantics.profile(series), Explored()
    with suppress(Rejection, NotModelled):
        linked = loading.linked(obj, case.program, profile, kernel)
        subject = Subject(obj, linked, profile)
        explore(subject, DEFAULT_BUDGET, record=True, into=explored)
    return statewords.unseen(claims, explored.steps)


def _predict(obj: Object, case: Case, series: str, kernel: Environment) -> Prediction:
    """The program's prediction; where that is `accept`, the first refusal of what attaches to it.

    A case claims one verdict for all of them.
    """
    found = [predict(obj, case.program, series, environment=kernel)]
    for each in case.companions:
        own = read_object(each.object) if each.object else obj
        onto = Onto(case.program, each.target, obj)
        found.append(predict(own, each.program, series, environment=kernel, onto=onto))
    refused = (each for each in found if each.verdict is Verdict.REJECT)
    if found[0].verdict is not Verdict.ACCEPT:
        return found[0]
    unsure = (each for each in found if each.verdict is Verdict.UNKNOWN)
    claim = dict(case.per_series).get(series, case.expectation)
    otherwise = next(unsure, found[0]) if _wanted(claim) is Verdict.REJECT else found[0]
    return next(refused, otherwise)


def _wanted(claim: Expectation) -> Verdict:
    return _WANTED.get(claim.verdict or Seen.RAN, Verdict.ACCEPT)


def _outcome(case: Case, claim: Expectation, found: Prediction) -> Outcome:
    if found.verdict is Verdict.UNKNOWN:
        return Outcome.UNKNOWN
    # a case that crashes says what the kernel should say
    wordless = found.verdict is Verdict.ACCEPT or not found.message or bool(case.crashes)
    same = _among_words if case.loading.alone else _same_words
    fits = found.verdict is _wanted(claim) and (wordless or same(claim, found))
    return Outcome.RIGHT if fits or (case.crashes and found.bugs) else Outcome.WRONG


def _same_words(claim: Expectation, found: Prediction) -> bool:
    same_errno = claim.errno is None or found.errno in (None, claim.errno)
    return same_errno and not missing(claim.messages, _EXPRESSION.sub("1", found.message))


def _among_words(claim: Expectation, found: Prediction) -> bool:
    """The kernel's selftests claim something of the whole log, in which a refusal is one line."""
    words = [each for each in claim.messages if not statewords.is_claim(each)]
    return not words or any(may_show(each, found.message) for each in words)


def count(judged: Iterable[Judged]) -> Count:
    """Sum of outcomes."""
    found = [each.outcome for each in judged]
    return Count(*(found.count(outcome) for outcome in Outcome))


def table(judged: Sequence[Judged]) -> str:
    """Text: a row for each series and kind of program; the wrong ones below; why not decided."""
    rows = [f"{'':8}{'':12}{'right':>7}{'wrong':>7}{'unknown':>9}{'decided':>9}"]
    for series in (name for name in SERIES if any(each.series == name for each in judged)):
        here = [each for each in judged if each.series == series]
        kinds = (("exceptions", [each for each in here if each.throws]), ("all", here))
        for kind, chosen in kinds:
            n = count(chosen)
            share = f"{n.decided:.1%}"
            rows.append(f"{series:8}{kind:12}{n.right:7}{n.wrong:7}{n.unknown:9}{share:>9}")
    rows += [f"wrong: {each}" for each in judged if each.outcome is Outcome.WRONG]
    return "\n".join([*rows, *_reasons(judged)])


def _reasons(judged: Sequence[Judged], most: int = 12) -> Iterator[str]:
    why: dict[str, list[Judged]] = {}
    for each in judged:
        if each.outcome is Outcome.UNKNOWN:
            why.setdefault(each.prediction.why, []).append(each)
    for reason, found in sorted(why.items(), key=lambda row: -len(row[1]))[:most]:
        yield f"unknown {len(found):4}: {reason} ({found[0].case.id})"
