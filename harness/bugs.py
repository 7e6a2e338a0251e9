# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Known kernel bugs: the table of what each kernel does, and what a run says about the table.

Owns progs/kernel-bugs/bugs.toml (docs/kernel-bugs.md describes its keys) and the judgement of one
result. Runs nothing and prints nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.build import PROGS
from harness.compare import expectation_for, expected_verdict
from harness.config import read_toml
from harness.errors import UsageError
from harness.model import Result, Verdict
from harness.series import SERIES, series_of
from harness.suite import APART
from harness.target.splats import Report

TABLE = PROGS / APART / "bugs.toml"


class Status(StrEnum):
    """What a kernel makes of a case."""

    FINE = "fine"  # what it should do
    CRASHED = "crashed"
    HUNG = "hung"
    REJECTED = "rejected"  # a program that should run
    ACCEPTED = "accepted"  # a program that should be refused
    WRONG = "wrong"  # ran, with another result than the simulator's
    WARNED = "warned"  # all is well but the kernel log
    KILLED = "killed"  # not the kernel, but the process that ran it died
    ABSENT = "absent"  # the kernel lacks a feature that the case needs
    LOST = "lost"


# what a table may claim
_CLAIMS = tuple(each for each in Status if each not in (Status.ABSENT, Status.LOST))


class Judgement(StrEnum):
    """What a result says about the table."""

    KNOWN = "known"  # the bug is there, as the table says
    FINE = "fine"  # it is not, as the table says
    FIXED = "fixed?"  # the table says it is there
    NEW = "new"  # the table says it is not
    OTHER = "other"  # it shows in another way than the table says
    ABSENT = "absent"
    LOST = "lost"


# what turns a run red: the table is not true any more
WRONG_TABLE = frozenset({Judgement.FIXED, Judgement.NEW, Judgement.OTHER})


@dataclass(frozen=True, slots=True)
class Known:
    """What one kernel series does with one case."""

    # several, where chance decides; FINE stands alone
    statuses: tuple[Status, ...]
    # regular expression, searched in what was seen and in the kernel log; "": nothing is asked
    says: str = ""
    # the first functions of one of the log's reports
    functions: tuple[str, ...] = ()
    # positive errno of a refused load; None: nothing is asked
    errno: int | None = None

    @property
    def text(self) -> str:
        """The statuses, for people."""
        return " or ".join(self.statuses)


@dataclass(frozen=True, slots=True)
class BugCase:
    """One program that shows a bug."""

    # of a case: "kernel-bugs/stale_callback/past_the_end"
    id: str
    # kernel series -> what it does; every series of harness.series has one
    on: Mapping[str, Known]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug and the programs that show it."""

    # as in the documentation: "A"
    letter: str
    title: str
    # where in the kernel, and why
    cause: str
    cases: tuple[BugCase, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One case on one kernel."""

    bug: Bug
    case: BugCase
    result: Result
    known: Known
    status: Status
    judgement: Judgement
    # what the status does not tell: the first words of the kernel, what the table says instead
    reason: str
    reports: tuple[Report, ...]


def find(bug: Bug, case: BugCase, result: Result, reports: tuple[Report, ...]) -> Finding:
    """Judge one result. `reports` are the splats in its kernel log."""
    release = result.observed.provenance.kernel
    known = case.on[series_of(release)]
    status = status_of(result, release, reports)
    judgement, reason = _judge(known, status, result, reports)
    return Finding(bug, case, result, known, status, judgement, reason, reports)


def status_of(result: Result, release: str, reports: tuple[Report, ...]) -> Status:
    """What the kernel made of a case."""
    seen = result.observed
    if seen.verdict is Verdict.LOST and reports:
        return Status.KILLED
    plain = {
        Verdict.CRASHED: Status.CRASHED,
        Verdict.HUNG: Status.HUNG,
        Verdict.LOST: Status.LOST,
        Verdict.UNSUPPORTED: Status.ABSENT,
    }
    if seen.verdict in plain:
        return plain[seen.verdict]
    if seen.verdict is not expected_verdict(expectation_for(result.case, release)):
        return Status.REJECTED if seen.verdict is Verdict.REJECTED else Status.ACCEPTED
    noise = [each for each in result.differences if each.path.startswith(("splats", "leaks"))]
    # a refusal is one whatever its words: they change from series to series
    if seen.verdict is Verdict.RAN and len(noise) < len(result.differences):
        return Status.WRONG
    return Status.WARNED if noise else Status.FINE


def _judge(
    known: Known, status: Status, result: Result, reports: tuple[Report, ...]
) -> tuple[Judgement, str]:
    message = result.observed.message
    if status in (Status.LOST, Status.ABSENT):
        return Judgement(status), message
    words = _words(result, reports)
    if status not in known.statuses:
        if status is Status.FINE:
            return Judgement.FIXED, f"known as {known.text} here"
        if known.statuses == (Status.FINE,):
            return Judgement.NEW, words
        return Judgement.OTHER, f"known as {known.text} here; {words}"
    if status is Status.FINE:
        return Judgement.FINE, message
    if status is Status.HUNG:
        # what was interrupted is not what made it hang
        return Judgement.KNOWN, words
    if known.errno not in (None, result.observed.errno):
        return Judgement.OTHER, f"known with errno {known.errno}, not {result.observed.errno}"
    text = f"{words}\n{message}\n{result.observed.kernel_log}"
    if known.says and not re.search(known.says, text, re.MULTILINE):
        return Judgement.OTHER, f"nothing says {known.says!r}; {words}"
    count = len(known.functions)
    if count and not any(each.functions[:count] == known.functions for each in reports):
        there = "; ".join(" < ".join(each.functions) for each in reports) or "no report"
        return Judgement.OTHER, f"known in {' < '.join(known.functions)}, shown in {there}"
    return Judgement.KNOWN, words


def _words(result: Result, reports: tuple[Report, ...]) -> str:
    seen = result.observed
    if seen.verdict in (Verdict.RAN, Verdict.LOST):
        if reports:
            return reports[0].lines[0]
        wrong = [each for each in result.differences if each.path != "verdict"]
        return f"{wrong[0].path} {wrong[0].observed}" if wrong else ""
    return seen.message


# ---- the table ------------------------------------------------------------------------------

_Keys = Mapping[str, type | tuple[type, ...]]
_BUG = {"letter": str, "title": str, "cause": str, "case": list}
_CASE = {"id": str, "on": dict}
_KNOWN = {"status": (str, list)}
_KNOWN_OPTIONAL = {"says": str, "functions": list, "errno": int}


def load(path: Path = TABLE) -> tuple[Bug, ...]:
    """Read the table. UsageError, with the place, for what it should not hold or lacks."""
    data = read_toml(path)
    _check(f"{path}", data, {"bug": list}, {})
    bugs = tuple(_bug(f"{path}: bug[{index}]", row) for index, row in enumerate(data["bug"]))
    letters = [bug.letter for bug in bugs]
    ids = [case.id for bug in bugs for case in bug.cases]
    for name in (*letters, *ids):
        if letters.count(name) + ids.count(name) > 1:
            raise UsageError(f"{path}: {name} is there twice")
    return bugs


def _bug(where: str, row: Any) -> Bug:
    _check(where, row, _BUG, {})
    cases = tuple(_case(f"{where}.case[{i}]", each) for i, each in enumerate(row["case"]))
    return Bug(row["letter"], row["title"], row["cause"], cases)


def _case(where: str, row: Any) -> BugCase:
    _check(where, row, _CASE, {"note": str})
    _check(f"{where}.on", row["on"], dict.fromkeys(SERIES, dict), {})
    on = {name: _known(f"{where}.on.{name}", row["on"][name]) for name in SERIES}
    return BugCase(row["id"], on, row.get("note", ""))


def _known(where: str, row: Any) -> Known:
    _check(where, row, _KNOWN, _KNOWN_OPTIONAL)
    given = row["status"] if isinstance(row["status"], list) else [row["status"]]
    wrong = [each for each in given if each not in _CLAIMS]
    if wrong or not given or (Status.FINE in given and len(given) > 1):
        fix = f"one of {', '.join(_CLAIMS)}, or several of those that are not fine"
        raise UsageError(f"{where}: status {row['status']!r}", fix=fix)
    functions = row.get("functions", [])
    if not all(isinstance(name, str) for name in functions):
        raise UsageError(f"{where}: functions are names")
    try:
        re.compile(row.get("says", ""))
    except re.error as error:
        raise UsageError(f"{where}: says: {error}", fix="correct the expression") from error
    return Known(tuple(map(Status, given)), row.get("says", ""), tuple(functions), row.get("errno"))


def _check(where: str, row: Any, required: _Keys, optional: _Keys) -> None:
    known = {**required, **optional}
    if not isinstance(row, dict):
        raise UsageError(f"{where}: not a table", fix="keys: " + ", ".join(known))
    problems = [f"unknown key {key!r}" for key in row if key not in known]
    problems += [f"missing key {key!r}" for key in required if key not in row]
    problems += [
        f"{key!r} has a value of the wrong type ({type(row[key]).__name__})"
        for key in row
        if key in known and not isinstance(row[key], known[key])
    ]
    if problems:
        raise UsageError(f"{where}: {problems[0]}", fix="keys: " + ", ".join(known))
