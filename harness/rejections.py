# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/rejections.md from progs/reject: what is refused, in which words on which kernel, and why.

`python -m harness.rejections` prints the page, `make docs` writes it. Owns its layout; the claims
are tags in the sources (harness.suite), the words of the rules are harness.refusals'.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from harness.build import OBJECT_SUFFIX, PROGS, SOURCE_SUFFIX
from harness.model import Case, Expectation, Verdict
from harness.refusals import RULES, Rule
from harness.series import SERIES
from harness.suite import collect

REJECT = PROGS / "reject"
_ALTERNATIVES = re.compile(r"\{\{(.*?)\}\}")
# parts of a wording that are plain words; shorter ones say nothing
_NO_WORDS = re.compile(r"[^A-Za-z_' -]+")
_LEAST = 16
_HEAD = re.compile(r"/\*(.*?)\*/", re.DOTALL)

INTRODUCTION = """\
# Rejections

What verifiers, and libbpf before them, refuse about exceptions: every rule with programs that break
it, and near misses that are as like them as can be and load. Written by `make docs` from the tags
in `progs/reject/`; booted kernels are held against the same tags by
`bpfthrow run progs/reject --kernel all`. Numbers that differ from load to load are `N`.

`bpfthrow repro FILE` says which of these rules refused a program of yours, `bpfthrow verify FILE`
which one would.

Not here: programs that take a kernel down or make it warn ([kernel-bugs.md](kernel-bugs.md)), and
the JIT that is switched off, since a tag cannot do that to a kernel: with
`net.core.bpf_jit_enable=0` every program that throws is refused with errno 524, `JIT is required
for calling kernel function`.
"""


def page(cases: Sequence[Case]) -> str:
    """The page, as Markdown. `cases`: those of progs/reject, of compiled sources."""
    parts = [INTRODUCTION]
    for path, group in groupby(cases, key=lambda case: case.object):
        source = REJECT / (Path(path).name.removesuffix(OBJECT_SUFFIX) + SOURCE_SUFFIX)
        parts.append("\n".join(_section(source, list(group))))
    return "\n".join(parts)


def _section(source: Path, cases: list[Case]) -> Iterator[str]:
    text = source.read_text(encoding="utf-8")
    stem = source.name.removesuffix(SOURCE_SUFFIX)
    refused = [case for case in cases if any(map(_is_refused, _claims(case)))]
    near = [case.program for case in cases if case not in refused]
    yield f"## {stem.replace('_', ' ').capitalize()}\n"
    yield f"{_first_comment(text)} Source: `progs/reject/{source.name}`.\n"
    if refused:
        yield from _table(refused)
    for rule in _rules(refused):
        yield f"\n**{rule.name}**: {rule.words}. Fix: {rule.fix}. Said by {rule.said_by}."
    example = next((shown for case in refused if (shown := _c_of(text, case.program))), "")
    if example:
        yield f"\n```c\n{example}\n```"
    if near:
        yield "\nNear misses, which load: " + ", ".join(f"`{name}`" for name in near) + "."
    yield ""


def _table(refused: list[Case]) -> Iterator[str]:
    yield "| program | kernels | verdict |"
    yield "|---|---|---|"
    for case in refused:
        said: dict[str, list[str]] = {}
        for series, claim in zip(SERIES, _claims(case), strict=True):
            said.setdefault(_cell(claim), []).append(series)
        for cell, where in said.items():
            kernels = "all" if len(where) == len(SERIES) else ", ".join(where)
            yield f"| `{case.program}` | {kernels} | {cell} |"


def _claims(case: Case) -> list[Expectation]:
    per_series = dict(case.per_series)
    return [per_series.get(name, case.expectation) for name in SERIES]


def _is_refused(claim: Expectation) -> bool:
    return claim.verdict is Verdict.REJECTED


def _cell(claim: Expectation) -> str:
    if not _is_refused(claim):
        return "loads"
    words = "; ".join(f"`{_plain(message)}`" for message in claim.messages)
    return (f"errno {claim.errno}, " if claim.errno else "") + words.replace("|", "\\|")


def _plain(message: str) -> str:
    """`message` without regular expressions: alternatives by "or", numbers as N."""
    numbers = message.replace("{{[0-9]+}}", "N").replace("{{[0-9]}}", "N")
    return _ALTERNATIVES.sub(lambda match: match[1].replace("|", "` or `"), numbers)


def _rules(refused: Iterable[Case]) -> list[Rule]:
    texts = [message for case in refused for claim in _claims(case) for message in claim.messages]
    found = [rule for text in texts if (rule := _rule(_plain(text)))]
    return list(dict.fromkeys(found))


def _rule(text: str) -> Rule | None:
    """The rule with the longest run of plain words in common with `text`."""
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


def _first_comment(text: str) -> str:
    match = _HEAD.search(text)
    return " ".join(re.sub(r"\n\s*\*", " ", match[1]).split()) if match else ""


def _c_of(text: str, program: str) -> str:
    """The C of a program: from the blank line before its name to the brace that closes it.

    "" where a macro writes the function.
    """
    match = re.search(rf"^(?:[^\n]*\s)?int\s+{program}\(", text, re.MULTILINE)
    if match is None:
        return ""
    start = text.rfind("\n\n", 0, match.start()) + 2
    end = text.find("\n}", match.end())
    return text[start : end + 2].expandtabs(8)


if __name__ == "__main__":
    sys.stdout.write(page(collect([REJECT])))
