# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table: cases and hooks downwards, the simulator and each target across.

Hooks of one case whose cells are all equal, and of which none differs, share a row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.model import Result
from harness.report.outcome import (
    Outcome,
    RunHeader,
    notes,
    outcome,
    simulated_value,
    summary,
    targets_of,
    value,
    verdict_line,
)
from harness.report.style import PLAIN, Style

# Hooks that come in pairs, and what a row that holds both calls them.
_FAMILIES = {
    "xdp": ("xdp-generic", "xdp-native"),
    "tc": ("tc-ingress", "tc-egress"),
    "tcx": ("tcx-ingress", "tcx-egress"),
}


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    hooks: tuple[str, ...]
    # simulator first, then one a target
    cells: tuple[_Cell, ...]

    @property
    def mergeable(self) -> bool:
        return all(c.outcome in (None, Outcome.AGREE, Outcome.UNSUPPORTED) for c in self.cells)


def render(results: Sequence[Result], header: RunHeader, style: Style = PLAIN) -> str:
    """The whole report as text: table, notes, one line a target, the verdict."""
    targets = targets_of(results)
    rows = list(_rows(results, targets, style))
    lines = _lines(rows, ("simulator", *targets), style)
    remarks = notes(results, header)
    if remarks:
        lines += ["", "Notes:", *(f"  {remark}" for remark in remarks)]
    lines += ["", *(_target_line(name, results, header) for name in targets)]
    lines += [verdict_line(results, header)]
    return "\n".join(lines) + "\n"


def _rows(results: Sequence[Result], targets: Sequence[str], style: Style) -> Iterable[_Row]:
    by_case: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        by_case.setdefault(result.case.id, {}).setdefault(result.case.hook, []).append(result)
    for name, hooks in by_case.items():
        merged: list[_Row] = []
        for hook, found in hooks.items():
            row = _Row(name, (hook,), _cells(found, targets, style))
            last = next((r for r in merged if r.mergeable and r.cells == row.cells), None)
            if last is None:
                merged.append(row)
            else:
                merged[merged.index(last)] = _Row(name, (*last.hooks, hook), row.cells)
        yield from merged


def _cells(found: Sequence[Result], targets: Sequence[str], style: Style) -> tuple[_Cell, ...]:
    # the profile follows the kernel, so the simulator may say several things
    answers = dict.fromkeys(simulated_value(result) for result in found)
    cells = [_Cell(" / ".join(answers))]
    for target in targets:
        result = next((r for r in found if r.target == target), None)
        if result is None:
            cells.append(_Cell("not run"))
            continue
        kind = outcome(result)
        text = value(result.observed, result.case.hook)
        cells.append(_Cell(f"{style.mark(kind)} {text}", kind))
    return tuple(cells)


def _lines(rows: Sequence[_Row], columns: Sequence[str], style: Style) -> list[str]:
    names = [_split(row.name)[1] for row in rows]
    hooks = [_hook_names(row.hooks) for row in rows]
    first = max([len("case"), *(2 + len(name) for name in names)])
    second = max([len("hook"), *(len(hook) for hook in hooks)])
    widths = [
        max([len(column), *(len(row.cells[i].text) for row in rows)])
        for i, column in enumerate(columns)
    ]
    titles = [column.ljust(width) for column, width in zip(columns, widths, strict=True)]
    lines = ["  ".join(["case".ljust(first), "hook".ljust(second), *titles]).rstrip()]
    topic, previous = None, None
    for row, name, hook in zip(rows, names, hooks, strict=True):
        if _split(row.name)[0] != topic:
            topic = _split(row.name)[0]
            lines.append(topic)
        shown = "" if row.name == previous else f"  {name}"
        previous = row.name
        cells = [_padded(cell, w, style) for cell, w in zip(row.cells, widths, strict=True)]
        lines.append("  ".join([shown.ljust(first), hook.ljust(second), *cells]).rstrip())
    return lines


def _split(case_id: str) -> tuple[str, str]:
    topic, _, name = case_id.rpartition("/")
    return topic, name


def _padded(cell: _Cell, width: int, style: Style) -> str:
    text = cell.text.ljust(width)
    return text if cell.outcome is None else style.paint(text, cell.outcome)


def _hook_names(hooks: Sequence[str]) -> str:
    names: list[str] = []
    for hook in hooks:
        family = next((f for f, both in _FAMILIES.items() if hook in both), "")
        name = family if family and set(_FAMILIES[family]) <= set(hooks) else hook
        if name not in names:
            names.append(name)
    return ", ".join(names)


def _target_line(name: str, results: Sequence[Result], header: RunHeader) -> str:
    counts = summary(result for result in results if result.target == name)
    cases = counts.pop("cases")
    rejected = counts.pop("rejected")
    parts = [f"{n} {what}" for what, n in counts.items() if n or what in ("agree", "differ")]
    refused = f" (loads refused: {rejected})" if rejected else ""
    facts = header.target(name).facts()
    return f"{name}: {f'{facts}: ' if facts else ''}{', '.join(parts)} of {cases}{refused}"
