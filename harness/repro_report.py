# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who refuses a program, why, since when: as text and as JSON.

Owns the layout and the grouping of kernels by rule. What a log says is harness.repro_log's
business.
"""

import errno as numbers
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import normalize
from harness.model import Observation, Verdict
from harness.report import columns
from harness.repro_load import Loaded, Pairs
from harness.repro_log import Evidence, Place

SCHEMA = 1
_WIDTH = 100
_LINES_AROUND = 2
_DIFF_LINES = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What one kernel says of one program."""

    kernel: str
    seen: Observation
    # None where it was not refused
    evidence: Evidence | None = None
    # the model's, where it refuses in the same words
    reason: str = ""
    remedy: str = ""

    @property
    def taken(self) -> bool:
        """Whether the kernel took the program."""
        return self.seen.verdict is Verdict.RAN

    @property
    def rule(self) -> str:
        """Name of the rule; "" where it is none, or none that is known."""
        found = self.evidence.found if self.evidence else None
        return found.rule.name if found else ""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two kernels say the same, whatever the wording."""
        if self.taken or self.evidence is None:
            return (str(self.seen.verdict),)
        return ("rule", self.rule) if self.rule else ("words", *self.evidence.messages)


@dataclass(frozen=True, slots=True)
class Story:
    """One program on every kernel."""

    program: str
    section: str
    answers: tuple[Answer, ...]
    # lines of C by file name and number, where they are known
    source: dict[tuple[str, int], str] = field(default_factory=dict)
    # what the model predicts, one line a series; where no kernel was there to ask
    model: tuple[str, ...] = ()
    # between which kernels the answer changed; None: nobody asked
    bisected: Pairs | None = None


# the relation between neighbours -----------------------------------------------------------------


def relation(one: Answer, other: Answer) -> str:
    """What a kernel's answer is to the one before it."""
    if one.key != other.key:
        return "another rule" if one.evidence and other.evidence else "another verdict"
    if one.evidence is None or other.evidence is None:
        return "the same"
    if one.evidence.messages == other.evidence.messages and one.seen.errno == other.seen.errno:
        return "the same"
    return "the same rule, other wording"


def groups(answers: Sequence[Answer]) -> list[list[Answer]]:
    """Refusals by rule, in the order of the first kernel that has each."""
    found: dict[tuple[str, ...], list[Answer]] = {}
    for answer in answers:
        if answer.evidence is not None:
            found.setdefault(answer.key, []).append(answer)
    return list(found.values())


# text --------------------------------------------------------------------------------------------


# what moves the cursor, sets the title, changes colours; new lines and tabs are fine
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def text(story: Story) -> str:
    """The whole story of one program."""
    lines = [f"{story.program} ({story.section})", *_table(story.answers)]
    lines += [f"  {line}" for line in story.model]
    if story.bisected is not None:
        places = ", then ".join(f"between {one} and {other}" for one, other in story.bisected)
        lines += ["", f"  The answer changed {places or 'nowhere'}."]
    for group in groups(story.answers):
        lines += ["", *_explained(story, group)]
    for one, other in zip(story.answers, story.answers[1:], strict=False):
        lines += _difference(one, other)
    return harmless("\n".join(lines))


def harmless(text: str) -> str:
    """`text` as a terminal may have it: names and lines of objects may be a stranger's."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _table(answers: Sequence[Answer]) -> list[str]:
    rows = [("kernel", "release", "verdict", "errno", "")]
    before: Answer | None = None
    for answer in answers:
        seen = answer.seen
        words = _words(answer)
        if before is not None and answer.evidence is not None and before.evidence is not None:
            words = f"{relation(before, answer)}: {words}" if words else relation(before, answer)
        rows.append(
            (
                answer.kernel,
                seen.provenance.kernel,
                "accepted" if answer.taken else str(seen.verdict),
                _errno(seen.errno),
                words,
            )
        )
        before = answer
    return [f"  {columns.line(row)}" for row in columns.padded(rows)]


def _words(answer: Answer) -> str:
    if answer.evidence is None:
        return "" if answer.taken else answer.seen.message.split("\n", 1)[0]
    return answer.evidence.messages[-1] if answer.evidence.messages else answer.seen.message


def _errno(number: int | None) -> str:
    return numbers.errorcode.get(number, str(number)) if number else ""


def _explained(story: Story, group: Sequence[Answer]) -> list[str]:
    """One rule: where, why, what was known, how to fix. Of the newest kernel, which says most."""
    newest = group[-1].evidence
    assert newest is not None
    kernels = ", ".join(answer.kernel for answer in group)
    found = newest.found
    told = next((answer for answer in reversed(group) if answer.reason or answer.remedy), group[-1])
    title = f"{found.rule.name} ({found.rule.category})" if found else "refused"
    lines = [f"{title}: {kernels}"]
    if newest.refused:
        lines += [f"  --> {_where(newest.refused)}", *_code(story, newest)]
    lines += [line for message, who in _said(group) for line in _fact(who, message)]
    lines += _fact("why", why(newest) or told.reason)
    if found and told.reason:
        lines += _fact("here", told.reason)
    registers = (f"{name}={state}" for name, state in newest.registers.items())
    lines += _fact("known there", "  ".join(registers))
    lines += _fact("fix", fix(newest, told))
    if found:
        lines += _fact("said by", found.rule.said_by) + _fact("since", found.rule.since)
    if newest.cut:
        lines += _fact("note", newest.cut)
    return lines


def why(evidence: Evidence) -> str:
    """The rule in words, with the places of this program."""
    if evidence.found is None:
        return ""
    words = evidence.found.rule.words
    if evidence.taken:
        places = ", ".join(_short(place) for place in evidence.taken)
        words += f"; taken at {places}"
    return words


def fix(evidence: Evidence, answer: Answer) -> str:
    """How to make it pass: the model's advice is about this program, the rule's about all."""
    return answer.remedy or (evidence.found.rule.fix if evidence.found else "")


def _said(group: Sequence[Answer]) -> Iterator[tuple[str, str]]:
    """Each wording with the kernels that have it."""
    wordings: dict[tuple[str, ...], list[str]] = {}
    for answer in group:
        assert answer.evidence is not None
        wordings.setdefault(answer.evidence.messages, []).append(answer.kernel)
    for messages, kernels in wordings.items():
        say = "says" if len(kernels) == 1 else "say"
        who = "says" if len(wordings) == 1 else f"{', '.join(kernels)} {say}"
        for message in messages:
            yield message, who


def _fact(name: str, text: str) -> list[str]:
    if not text:
        return []
    head = f"   = {name}: "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False
    )


def _where(place: Place) -> str:
    line = f"{_file(place)}:{place.line.number}, " if place.line and place.line.number else ""
    instruction = f": {place.instruction}" if place.instruction else ""
    return f"{line}instruction {place.number}{instruction}"


def _short(place: Place) -> str:
    if place.line and place.line.number:
        return f"line {place.line.number} ({place.line.text.rstrip(';')})"
    return f"instruction {place.number}"


def _code(story: Story, evidence: Evidence) -> list[str]:
    """The lines of C that matter, and those around them."""
    refused = evidence.refused
    assert refused is not None
    if refused.line is None or not refused.line.number:
        return [f"      | {refused.line.text}"] if refused.line else []
    at, file = refused.line.number, _file(refused)
    places = [place for place in evidence.taken if place.line and _file(place) == file]
    marks = {place.line.number: "taken here" for place in places if place.line}
    known = {number: line for (name, number), line in story.source.items() if name == file}
    for place in (refused, *evidence.taken):
        if place.line and _file(place) == file:
            known.setdefault(place.line.number, place.line.text)
    shown = sorted(n for n in known if abs(n - at) <= _LINES_AROUND or n in marks)
    width = len(str(shown[-1]))
    rows, before = [], 0
    for number in shown:
        if before and number > before + 1:
            rows.append(f"  {'...':>{width + 2}}")
        note = f"    <- {marks[number]}" if number in marks and number != at else ""
        sign = ">" if number == at else " "
        rows.append(f"  {sign} {number:{width}} | {known[number].rstrip()}{note}")
        before = number
    return rows


def _file(place: Place) -> str:
    return place.line.file.rpartition("/")[2] if place.line else ""


def _difference(one: Answer, other: Answer) -> list[str]:
    if one.evidence is None or other.evidence is None:
        return []
    found = normalize.difference(one.seen.log, other.seen.log, (one.kernel, other.kernel), 1)
    if not found:
        return []
    more = len(found) - _DIFF_LINES
    tail = [f"({more} more lines: --json has the logs)"] if more > 0 else []
    title = f"From {one.kernel} to {other.kernel}: {relation(one, other)}"
    return ["", title, *(f"  {line}" for line in [*found[:_DIFF_LINES], *tail])]


# JSON --------------------------------------------------------------------------------------------


def document(file: str, stories: Sequence[Story]) -> dict[str, Any]:
    """Plain JSON types; docs/repro.md describes them."""
    return {"schema": SCHEMA, "file": file, "programs": [_story(story) for story in stories]}


def _story(story: Story) -> dict[str, Any]:
    return {
        "program": story.program,
        "section": story.section,
        "bisected": None if story.bisected is None else [list(pair) for pair in story.bisected],
        "model": list(story.model),
        "kernels": [_answer(answer) for answer in story.answers],
    }


def _answer(answer: Answer) -> dict[str, Any]:
    seen, found = answer.seen, answer.evidence
    return {
        "kernel": answer.kernel,
        "release": seen.provenance.kernel,
        "verdict": "accepted" if answer.taken else str(seen.verdict),
        "errno": seen.errno,
        "message": seen.message,
        "rule": answer.rule or None,
        "category": found.found.rule.category if found and found.found else None,
        "messages": list(found.messages) if found else [],
        "why": why(found) if found else "",
        "reason": answer.reason,
        "fix": fix(found, answer) if found else "",
        "refused": _place(found.refused) if found else None,
        "taken": [_place(place) for place in found.taken] if found else [],
        "registers": found.registers if found else {},
        "log": seen.log,
    }


def _place(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    line = place.line
    return {
        "instruction": place.number,
        "text": place.instruction,
        "file": line.file if line else "",
        "line": line.number if line else 0,
        "source": line.text if line else "",
    }


# a run and the bundle that it repeats ------------------------------------------------------------


def against(
    bundled: Sequence[Loaded], now: Sequence[Answer], program: str, old: list[Answer]
) -> str:
    """One line for each kernel of now: how it compares with the bundle's nearest one."""
    rows = []
    for answer in now:
        before = _nearest(bundled, answer, program)
        match = next((each for each in old if before and each.kernel == before.kernel), None)
        if match is not None:
            said = relation(match, answer)
            rows.append(f"  {match.kernel} in the bundle, {answer.kernel} now: {said}")
    return harmless("\n".join(rows))


def _nearest(bundled: Sequence[Loaded], answer: Answer, program: str) -> Loaded | None:
    """The bundle's load on the same kernel, else on one of its series, else its newest."""
    own = [load for load in bundled if program in load.seen]
    same = [load for load in own if load.kernel == answer.kernel]
    series = Loaded(answer.kernel, {program: answer.seen}).series
    alike = [load for load in own if load.series == series]
    return next(iter([*same, *alike, *own[::-1]]), None)
