# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What `bpfthrow bugs` says: the table bug x kernel, what is not as known, JSON, whole logs."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import symbols
from harness.bugs import WRONG_TABLE, Bug, BugCase, Finding, Judgement, Status
from harness.bugs_run import Share
from harness.errors import Exit
from harness.report import columns
from harness.report.document import write
from harness.report.outcome import Outcome, Tested, first_line
from harness.report.style import Style

SCHEMA = 1
# a log in the report is cut to its first report, and that to so many lines
_LOG_LINES = 30
_BLANK = "-"
_OUTCOMES = {
    Judgement.FINE: Outcome.AGREE,
    Judgement.ABSENT: Outcome.UNSUPPORTED,
    **dict.fromkeys(WRONG_TABLE, Outcome.DIFFER),
    Judgement.LOST: Outcome.LOST,
}
# no use to anybody who looks for the place, unless something in the line has a name
_NOISE = re.compile(r"(?:Code|RSP|FS|CS|CR2|PKRU|Modules linked in|Hardware name|R\w\w):? ")
_TIME = re.compile(r"^\[ *[\d.]+\] ")

Decode = Callable[[Share, str], str]


def cell(finding: Finding) -> str:
    """One word for what was seen; in front of it what is wrong about that, if anything is."""
    if finding.judgement is Judgement.FIXED:
        return "FIXED?"
    word = str(finding.status)
    return f"{finding.judgement.upper()}: {word}" if finding.judgement in WRONG_TABLE else word


def table(
    bugs: Sequence[Bug], shares: Sequence[Share], intended: Mapping[str, str], style: Style
) -> str:
    """Rows are cases, under their bug's title; columns are kernels."""
    head = ["bug and case", "intended", *(_name(share.tested) for share in shares)]
    found = {
        (finding.case.id, share.spec): finding for share in shares for finding in share.findings
    }
    rows: list[list[str] | str] = []
    outcomes: dict[tuple[int, int], Outcome] = {}
    for bug in bugs:
        rows.append(f"{bug.letter}  {bug.title}")
        for case in bug.cases:
            row = [f"   {_short(case)}", intended.get(case.id, "")]
            for share in shares:
                finding = found.get((case.id, share.spec))
                row.append(cell(finding) if finding else _BLANK)
                if finding and finding.judgement in _OUTCOMES:
                    outcomes[len(rows), len(row) - 1] = _OUTCOMES[finding.judgement]
            rows.append(row)
    aligned = iter(columns.padded([row for row in [head, *rows] if isinstance(row, list)]))

    def line(index: int) -> str:
        painted = [
            style.paint(text, outcomes[index, at]) if (index, at) in outcomes else text
            for at, text in enumerate(next(aligned))
        ]
        return columns.line(painted)

    lines = [columns.line(next(aligned))]
    lines += [row if isinstance(row, str) else line(index) for index, row in enumerate(rows)]
    return "\n".join(lines)


def _short(case: BugCase) -> str:
    return case.id.split("/", 1)[-1]


def _name(tested: Tested) -> str:
    return tested.name.removeprefix("vm-")


def kernels(shares: Sequence[Share]) -> str:
    """A line for each kernel: what it turned out to be, and how many of its bugs were seen."""
    lines = []
    for share in shares:
        counts = Counter(finding.judgement for finding in share.findings)
        told = ", ".join(f"{counts[each]} {each}" for each in Judgement if counts[each])
        facts = share.tested.facts()
        lines.append(f"{_name(share.tested)}: {f'{facts}: ' if facts else ''}{told}")
    return "\n".join(lines)


def surprises(shares: Sequence[Share], decode: Decode) -> list[str]:
    """A text for each finding that the table does not know, with its decoded report."""
    return [
        text(share, finding, decode)
        for share in shares
        for finding in share.findings
        if finding.judgement in WRONG_TABLE
    ]


def text(share: Share, finding: Finding, decode: Decode) -> str:
    """One finding in full."""
    name = f"{finding.bug.letter} {_short(finding.case)} on {_name(share.tested)}"
    lines = [f"{name}: {cell(finding)}: {first_line(finding.reason, 300)}"]
    if finding.judgement is Judgement.FIXED:
        lines += [
            "  This kernel no longer shows the bug. If that is so, say it in",
            "  progs/kernel-bugs/bugs.toml; if the case only misses it, mend the case.",
        ]
    for line in stack(decode(share, finding.result.observed.kernel_log)):
        lines.append(f"    {line}")
    return "\n".join(lines)


def stack(log: str) -> list[str]:
    """The lines of a log that tell where the kernel was: registers and code only where named."""
    kept = [line for line in log.splitlines() if symbols.MARK in line or not _is_noise(line)]
    more = len(kept) - _LOG_LINES
    return kept[:_LOG_LINES] + ([f"({more} more lines)"] if more > 0 else [])


def _is_noise(line: str) -> bool:
    return bool(_NOISE.match(_TIME.sub("", line))) and "RIP:" not in line


def lost(shares: Sequence[Share]) -> list[str]:
    """One line for each reason why a machine was lost."""
    found = {
        f"{_name(share.tested)} lost: {finding.reason}": None
        for share in shares
        for finding in share.findings
        if finding.judgement is Judgement.LOST
    }
    return list(found)


def exit_code(findings: Iterable[Finding]) -> Exit:
    """1 where the table is not true any more, 128 where a machine was lost, or there was none."""
    seen = {finding.judgement for finding in findings}
    if seen & WRONG_TABLE:
        return Exit.DIFFERENCE
    return Exit.LOST if Judgement.LOST in seen or not seen else Exit.OK


def nothing_ran(shares: Sequence[Share]) -> list[str]:
    """Machines that should have exceptions and had none: nothing was tried there."""
    return [
        f"{_name(share.tested)}: every case was absent, yet this kernel should have exceptions"
        for share in shares
        if share.tested.expects_throw
        and share.findings
        and all(finding.status is Status.ABSENT for finding in share.findings)
    ]


def document(
    bugs: Sequence[Bug],
    shares: Sequence[Share],
    intended: Mapping[str, str],
    decode: Decode | None = None,
) -> dict[str, Any]:
    """Plain JSON types for a whole run; docs/kernel-bugs.md describes them. `decode`: for logs."""
    counts = Counter(finding.judgement for share in shares for finding in share.findings)
    return {
        "schema": SCHEMA,
        "summary": {str(each): counts[each] for each in Judgement},
        "kernels": [
            {"name": _name(share.tested), "release": share.tested.release, "spec": share.spec}
            for share in shares
        ],
        "bugs": [
            _bug_object(bug, intended, lambda case: _seen(case, shares, decode)) for bug in bugs
        ],
    }


def list_document(bugs: Sequence[Bug], intended: Mapping[str, str]) -> dict[str, Any]:
    """The same of the table alone: `on` has what is known of each series, and no kernel."""
    return {"schema": SCHEMA, "bugs": [_bug_object(bug, intended, _claimed) for bug in bugs]}


def _bug_object(
    bug: Bug, intended: Mapping[str, str], on: Callable[[BugCase], dict[str, Any]]
) -> dict[str, Any]:
    return {
        "bug": bug.letter,
        "title": bug.title,
        "cause": bug.cause,
        "cases": [
            {
                "id": case.id,
                "intended": intended.get(case.id, ""),
                "note": case.note,
                "on": on(case),
            }
            for case in bug.cases
        ],
    }


def _claimed(case: BugCase) -> dict[str, Any]:
    return {
        series: {
            "expected": known.text,
            "says": known.says,
            "errno": known.errno,
            "functions": list(known.functions),
        }
        for series, known in case.on.items()
    }


def _seen(case: BugCase, shares: Sequence[Share], decode: Decode | None) -> dict[str, Any]:
    found = [(share, each) for share in shares for each in share.findings if each.case is case]
    return {
        _name(share.tested): _finding_object(finding)
        | ({"log": decode(share, finding.result.observed.kernel_log)} if decode else {})
        for share, finding in found
    }


def _finding_object(finding: Finding) -> dict[str, Any]:
    seen = finding.result.observed
    return {
        "status": str(finding.status),
        "expected": finding.known.text,
        "judgement": str(finding.judgement),
        "reason": finding.reason,
        "errno": seen.errno,
        "retvals": list(seen.retvals),
        "reports": [
            {"line": report.lines[0], "functions": list(report.functions)}
            for report in finding.reports
        ],
        "duration_s": round(seen.duration_s, 3),
    }


def keep(shares: Sequence[Share], directory: Path, decode: Decode) -> int:
    """Write DIRECTORY/KERNEL/CASE.log, decoded, for each case that left one; how many."""
    count = 0
    for share in shares:
        for finding in share.findings:
            seen = finding.result.observed
            if finding.judgement in (Judgement.FINE, Judgement.ABSENT, Judgement.LOST):
                continue
            parts = [seen.message, seen.log, decode(share, seen.kernel_log)]
            if not any(parts):
                continue
            name = re.sub(r"[^\w.-]+", "_", _short(finding.case))
            place = directory / re.sub(r"[^\w.~-]+", "_", share.tested.name) / f"{name}.log"
            place.parent.mkdir(parents=True, exist_ok=True)
            write(place, "\n\n".join(part for part in parts if part) + "\n")
            count += 1
    return count
