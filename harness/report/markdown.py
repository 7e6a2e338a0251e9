# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The matrix as Markdown: a line for each kernel, the failures, all rows folded away by topic.

For the summary page of a CI step, a pull request or a mail; GitHub's flavour (tables, <details>).
"""

import html
import re
from collections.abc import Iterable, Sequence

from harness.model import Result
from harness.report import grid
from harness.report.detail import detail
from harness.report.outcome import (
    FAILURES,
    Outcome,
    RunHeader,
    exit_code,
    headline,
    outcome,
    reasons,
    summary,
    targets_of,
    verdict_line,
)
from harness.report.style import SYMBOLS, clean

# a forge takes a megabyte for all steps of a job; the page and the JSON have everything
_DETAILS = 20
_LINES = 100
# what has a meaning inside a cell or a heading
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")


def markdown(results: Sequence[Result], header: RunHeader, title: str = "BPF exceptions") -> str:
    """The whole report as text."""
    bad = [result for result in results if outcome(result) in FAILURES]
    # as the run's exit code: what lost its machine, or tested nothing, is not good
    good = Outcome.LOST if exit_code(results, header) else Outcome.AGREE
    sign = SYMBOLS[Outcome.DIFFER if bad else good]
    lines = [f"## {sign} {_plain(title)}", "", _plain(verdict_line(results, header)), ""]
    lines += _kernels(results, header)
    lines += _failures(bad, header)
    lines += _rows(results)
    without = reasons(results, header)
    if without:
        lines += ["", "### Without a verdict", "", *(f"- {_plain(each)}" for each in without)]
    return "\n".join(lines) + "\n"


def _kernels(results: Sequence[Result], header: RunHeader) -> Iterable[str]:
    counts = {
        name: summary(result for result in results if result.target == name)
        for name in targets_of(results)
    }
    always = (Outcome.AGREE, Outcome.DIFFER)
    kinds = [k for k in Outcome if k in always or any(own[k] for own in counts.values())]
    yield _line(["kernel", "release", *(f"{SYMBOLS[kind]} {kind}" for kind in kinds), "time"])
    yield _line(["---", "---", *("---:" for _ in kinds), "---:"])
    for name, own in counts.items():
        target = header.target(name)
        took = f"{target.seconds:.0f} s" if target.seconds else ""
        numbers = [str(own[kind]) if own[kind] else "" for kind in kinds]
        yield _line([_plain(name), _plain(target.release), *numbers, took])


def _failures(bad: Sequence[Result], header: RunHeader) -> Iterable[str]:
    if not bad:
        return
    yield from ("", "### Failures", "")
    for result in bad[:_DETAILS]:
        case = result.case
        name = f"{SYMBOLS[outcome(result)]} {case.id} [{case.hook}] on {result.target}"
        yield f"<details><summary>{_escaped(f'{name}: {headline(result)}')}</summary>"
        yield from ("", *_block(detail(result, header)), "", "</details>")
    if len(bad) > _DETAILS:
        yield f"\n{len(bad) - _DETAILS} more: the JSON and the HTML page have them all."


def _rows(results: Sequence[Result]) -> Iterable[str]:
    topics: dict[str, list[grid.Row]] = {}
    for row in grid.rows(results):
        topics.setdefault(row.topic, []).append(row)
    titles = ["case", "hook", "simulator", *targets_of(results)]
    yield from ("", "### Cases and kernels", "")
    for topic, rows in topics.items():
        bad = sum(not row.good for row in rows)
        mark = f"{SYMBOLS[Outcome.DIFFER]} {bad} of " if bad else ""
        state = " open" if bad else ""
        yield f"<details{state}><summary>{_escaped(topic)}: {mark}{len(rows)} rows</summary>"
        yield from ("", _line(map(_plain, titles)), _line("---" for _ in titles))
        for row in rows:
            cells = [_cell(cell) for cell in row.cells]
            yield _line([_plain(row.name), row.hook_names(), _plain(row.simulated), *cells])
        yield from ("", "</details>")


def _cell(cell: grid.Cell) -> str:
    if cell.outcome is None:
        return _plain(cell.text)
    text = f"{SYMBOLS[cell.outcome]} {_plain(cell.text)}"
    return text if cell.good else f"**{text}**"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """`text` without a meaning, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))


def _escaped(text: str) -> str:
    """`text` between HTML tags, where Markdown is not read."""
    return html.escape(" ".join(clean(text).split()), quote=False)


def _block(text: str) -> list[str]:
    """`text` as code, fenced with more backticks than are in it."""
    lines = clean(text).splitlines()
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"({len(lines) - _LINES + 1} more lines)"]
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, *lines, fence]
