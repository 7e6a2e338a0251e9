# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/rejections.md from progs/reject: what is refused, in which words on which kernel, and why.

`python -m harness.rejections` prints the page, `make docs` writes it. Owns its order: how a throw
is looked at, an index of messages, a section for each rule. The claims are tags in the sources
(harness.suite), rules and their words harness.refusals', the C harness.rejections_c's.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build import OBJECT_SUFFIX, PROGS, SOURCE_SUFFIX
from harness.model import Case, Expectation, Verdict
from harness.refusals import RULES
from harness.refusals_rule import Rule
from harness.rejections_c import excerpt, first_comment, likeness, what_it_is
from harness.series import SERIES
from harness.suite import collect

REJECT = PROGS / "reject"
_INTRODUCTION = Path(__file__).with_name("rejections_introduction.md")
_ALTERNATIVES = re.compile(r"\{\{(.*?)\}\}")
# parts of a wording that are plain words; shorter ones say nothing
_NO_WORDS = re.compile(r"[^A-Za-z_' -]+")
_LEAST = 16
# an example is read, not searched
_LONGEST = 48
# what a line more may cost in likeness
_DEAR = 0.03
_TITLES = {
    "resource-lifetime": "What is held",
    "execution-context": "Where the program is",
    "call-type": "What is passed and returned",
    "program-structure": "How the program is built",
    "policy": "Who may do it",
    "memory": "Memory",
    "register-type": "Registers",
    "loader": "Before any kernel is asked",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One program of the collection."""

    case: Case
    source: Path
    # what it claims for each of SERIES
    claims: tuple[Expectation, ...]

    @property
    def refused(self) -> bool:
        return any(map(_is_refused, self.claims))


def page(cases: Sequence[Case]) -> str:
    """The page, as Markdown. `cases`: those of progs/reject, of compiled sources."""
    entries = [_entry(case) for case in cases]
    by_rule = _by_rule(entries)
    parts = [_INTRODUCTION.read_text(encoding="utf-8").rstrip() + "\n"]
    parts.append("\n".join(_index(entries)))
    shown = [rule for rule in RULES if by_rule.get(rule.name)]
    for category, title in _TITLES.items():
        rules = [rule for rule in shown if rule.category == category]
        if rules:
            parts.append(f"## {title}\n")
        parts += ["\n".join(_section(rule, by_rule[rule.name], entries)) for rule in rules]
    parts.append("\n".join(_unseen(shown)))
    parts.append("\n".join(_files(entries)))
    return "\n".join(parts)


def _entry(case: Case) -> _Entry:
    name = Path(case.object).name.removesuffix(OBJECT_SUFFIX) + SOURCE_SUFFIX
    per_series = dict(case.per_series)
    claims = tuple(per_series.get(name, case.expectation) for name in SERIES)
    return _Entry(case, REJECT / name, claims)


def _is_refused(claim: Expectation) -> bool:
    return claim.verdict is Verdict.REJECTED


def _by_rule(entries: Iterable[_Entry]) -> dict[str, list[_Entry]]:
    found: dict[str, list[_Entry]] = {}
    for entry in entries:
        for name in dict.fromkeys(rule.name for rule in _rules(entry) if rule):
            found.setdefault(name, []).append(entry)
    return found


def _rules(entry: _Entry) -> list[Rule | None]:
    """The rule that each series refuses the program by; None: it loads."""
    return [
        next((rule for text in claim.messages if (rule := rule_of_claim(plain(text)))), None)
        if _is_refused(claim)
        else None
        for claim in entry.claims
    ]


# ---- the index ------------------------------------------------------------------------------


def _index(entries: Iterable[_Entry]) -> Iterator[str]:
    yield "## By message\n"
    yield (
        "What the log says, in the order of the alphabet; `N` is a number that differs from load\n"
        "to load. Search this page for a few words of yours, not for the whole line.\n"
    )
    yield "| the log says | errno | kernels | rule |"
    yield "|---|---|---|---|"
    found: dict[tuple[str, int, str], set[str]] = {}
    for entry in entries:
        for series, claim in zip(SERIES, entry.claims, strict=True):
            for text in claim.messages if _is_refused(claim) else ():
                rule = rule_of_claim(plain(text))
                key = (plain(text), claim.errno or 0, rule.name if rule else "")
                found.setdefault(key, set()).add(series)
    for (text, errno, name), where in sorted(found.items(), key=lambda row: _order(row[0][0])):
        yield f"| {_code(text)} | {errno or ''} | {_kernels(where)} | [{name}](#{name}) |"
    yield ""


def _order(text: str) -> str:
    return re.sub(r"^[^A-Za-z]*", "", text).lower() + text


def _kernels(series: Iterable[str]) -> str:
    found = set(series)
    return "all" if found == set(SERIES) else ", ".join(each for each in SERIES if each in found)


def _code(text: str) -> str:
    """`text` as code in a cell of a table; alternatives stand apart."""
    return " or ".join(f"`{each}`" for each in text.split("` or `")).replace("|", "\\|")


# ---- a rule ---------------------------------------------------------------------------------


def _section(rule: Rule, broken: list[_Entry], entries: list[_Entry]) -> Iterator[str]:
    yield f"### {rule.name}\n"
    yield f"{rule.words[0].upper()}{rule.words[1:]}.\n"
    yield f"- **Fix**: {rule.fix}."
    if rule.since:
        yield f"- **Since**: {rule.since}."
    yield f"- **Said by**: {rule.said_by}.\n"
    yield "| kernels | errno | the log says |"
    yield "|---|---|---|"
    yield from _messages(rule, broken)
    yield from _example(rule, broken, entries)
    yield "\n| program | what it does | " + " | ".join(SERIES) + " |"
    yield "|---|---|" + "---|" * len(SERIES)
    for entry in broken:
        cells = " | ".join(_cells(rule, entry))
        link = f"[{entry.case.program}](../progs/reject/{entry.source.name})"
        yield f"| {link} | {_about(entry)} | {cells} |"
    near = dict.fromkeys(e.case.program for e in _near(broken, entries))
    if near:
        yield "\nNear misses, which load: " + ", ".join(f"`{name}`" for name in near) + "."
    yield ""


def _about(entry: _Entry) -> str:
    """What a program does, as far as its source says; else where, or its name in words."""
    section = entry.case.section.removeprefix("?")
    other = entry.case.program.replace("_", " ") if section == "tc" else f"section `{section}`"
    return what_it_is(_text(entry), entry.case.program) or other


def _near(broken: list[_Entry], entries: Iterable[_Entry]) -> list[_Entry]:
    """Near misses of the sources that are about this rule, more than about others."""
    rest = [entry for entry in entries if entry.source in {other.source for other in broken}]
    wrong = [entry.source for entry in rest if entry.refused]
    own = [entry.source for entry in broken]
    about = {source for source in own if 2 * own.count(source) >= wrong.count(source)}
    return [entry for entry in rest if not entry.refused and entry.source in about]


def _messages(rule: Rule, broken: Iterable[_Entry]) -> Iterator[str]:
    found: dict[tuple[str, int], set[str]] = {}
    for entry in broken:
        for series, claim in zip(SERIES, entry.claims, strict=True):
            for text in map(plain, claim.messages if _is_refused(claim) else ()):
                if rule_of_claim(text) is rule:
                    found.setdefault((text, claim.errno or 0), set()).add(series)
    for (text, errno), where in found.items():
        yield f"| {_kernels(where)} | {errno or ''} | {_code(text)} |"


def _cells(rule: Rule, entry: _Entry) -> Iterator[str]:
    for claim, found in zip(entry.claims, _rules(entry), strict=True):
        if not _is_refused(claim):
            yield "loads"
        elif found is rule or found is None:
            yield "refused"
        else:
            yield f"refused: [{found.name}](#{found.name})"


def _example(rule: Rule, broken: list[_Entry], entries: list[_Entry]) -> Iterator[str]:
    """The refused program and the near miss of one file that are most alike."""
    # one that every series refuses, for its reader may have any
    whole = [each for each in broken if all(found is rule for found in _rules(each))] or broken
    alone = [shown for each in whole if (shown := _shown(each))]
    pairs = [
        (mine, theirs)
        for each in whole
        for other in entries
        if other.source == each.source and other not in broken and _loads_today(other)
        if (mine := _shown(each)) and (theirs := _shown(other))
    ]
    refused, loads = max(pairs, key=_worth, default=(min(alone, key=len, default=""), ""))
    if refused:
        yield f"\nRefused:\n\n```c\n{refused}\n```"
    if loads:
        yield f"\nLoads:\n\n```c\n{loads}\n```"


def _loads_today(entry: _Entry) -> bool:
    return not _is_refused(entry.claims[-1])


def _worth(pair: tuple[str, str]) -> float:
    """Alike and short is best."""
    return likeness(*pair) - pair[0].count("\n") * _DEAR


def _shown(entry: _Entry) -> str:
    text, case = _text(entry), entry.case
    # what attaches to a program may be what is refused
    others = [(each.program, f"{each.kind}/{each.target}") for each in case.companions]
    parts = [excerpt(text, *each) for each in [(case.program, case.section), *others]]
    found = "\n\n".join(parts) if all(parts) else ""
    return found if found.count("\n") < _LONGEST else ""


def _text(entry: _Entry) -> str:
    return entry.source.read_text(encoding="utf-8")


# ---- the end of the page --------------------------------------------------------------------


def _unseen(shown: Sequence[Rule]) -> Iterator[str]:
    yield "## Rules without a program here\n"
    yield (
        "`bpfthrow repro` knows them as well: they are no matter of exceptions alone, a kernel of\n"
        "today or libbpf says something else first, or they are a kernel's bug.\n"
    )
    yield "| rule | what it is | fix |"
    yield "|---|---|---|"
    for rule in RULES:
        if rule not in shown:
            yield f"| {rule.name} | {_cell(rule.words)} | {_cell(rule.fix)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _files(entries: Sequence[_Entry]) -> Iterator[str]:
    yield "## Sources\n"
    yield "| `progs/reject/` | about | refused | loads |"
    yield "|---|---|---|---|"
    for source in dict.fromkeys(entry.source for entry in entries):
        own = [entry for entry in entries if entry.source == source]
        refused = sum(entry.refused for entry in own)
        about = _cell(first_comment(source.read_text(encoding="utf-8")))
        yield f"| `{source.name}` | {about} | {refused} | {len(own) - refused} |"


# ---- messages and rules ---------------------------------------------------------------------


def plain(message: str) -> str:
    """`message` without regular expressions: alternatives by "or", numbers as N."""
    numbers = message.replace("{{[0-9]+}}", "N").replace("{{[0-9]}}", "N")
    return _ALTERNATIVES.sub(lambda match: match[1].replace("|", "` or `"), numbers)


def rule_of_claim(text: str) -> Rule | None:
    """The rule of a claim, which may be a part of the message: as plain() has it.

    One that says the claim in full, else the one with the longest run of words in common.
    """
    whole = text.replace("N", "1") if re.search(r"\bN\b", text) else text
    for rule in RULES:
        if any(re.fullmatch(wording, whole) for wording in rule.wordings):
            return rule
    best, longest = None, _LEAST - 1
    for rule in RULES:
        for wording in rule.wordings:
            shared = _shared(wording.replace("\\", ""), text)
            if shared > longest:
                best, longest = rule, shared
    return best


def _shared(one: str, other: str) -> int:
    runs = [run for run in _words(one) if run in other]
    runs += [run for run in _words(other) if run in one]
    return max(map(len, runs), default=0)


def _words(text: str) -> list[str]:
    return [run.strip() for run in _NO_WORDS.split(text)]


if __name__ == "__main__":
    sys.stdout.write(page(collect([REJECT])))
