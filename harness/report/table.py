# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The matrix (grid.py) as text, and what came of each target."""

from collections.abc import Sequence

from harness.model import Result
from harness.report import columns, grid
from harness.report.outcome import RunHeader, notes, summary, targets_of, verdict_line
from harness.report.style import PLAIN, Style


def render(results: Sequence[Result], header: RunHeader, style: Style = PLAIN) -> str:
    """The whole report as text: table, notes, one line a target, the verdict."""
    targets = targets_of(results)
    lines = _lines(grid.rows(results), targets, style)
    remarks = notes(results, header)
    if remarks:
        lines += ["", "Notes:", *(f"  {remark}" for remark in remarks)]
    lines += ["", *(target_line(name, results, header) for name in targets)]
    lines += [verdict_line(results, header)]
    return "\n".join(lines) + "\n"


def _lines(rows: Sequence[grid.Row], targets: Sequence[str], style: Style) -> list[str]:
    cells = [["case", "hook", "simulator", *targets]]
    previous = None
    for row in rows:
        shown = "" if (row.topic, row.name) == previous else f"  {row.name}"
        previous = (row.topic, row.name)
        texts = [_text(cell, style) for cell in row.cells]
        cells.append([shown, row.hook_names(), row.simulated, *texts])
    head, *aligned = columns.padded(cells)
    lines = [columns.line(head)]
    topic = None
    for row, padded in zip(rows, aligned, strict=True):
        if row.topic != topic:
            topic = row.topic
            lines.append(topic)
        painted = [_painted(t, cell, style) for t, cell in zip(padded[3:], row.cells, strict=True)]
        lines.append(columns.line([*padded[:3], *painted]))
    return lines


def _text(cell: grid.Cell, style: Style) -> str:
    return cell.text if cell.outcome is None else f"{style.mark(cell.outcome)} {cell.text}"


def _painted(text: str, cell: grid.Cell, style: Style) -> str:
    return text if cell.outcome is None else style.paint(text, cell.outcome)


def target_line(name: str, results: Sequence[Result], header: RunHeader) -> str:
    """What came of one target."""
    counts = summary(result for result in results if result.target == name)
    cases = counts.pop("cases")
    rejected = counts.pop("rejected")
    parts = [f"{n} {what}" for what, n in counts.items() if n or what in ("agree", "differ")]
    refused = f" (loads refused: {rejected})" if rejected else ""
    facts = header.target(name).facts()
    return f"{name}: {f'{facts}: ' if facts else ''}{', '.join(parts)} of {cases}{refused}"
