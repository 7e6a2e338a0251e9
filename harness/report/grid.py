# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The matrix as data: cases and hooks downwards, the simulator and each target across.

Hooks of one case whose cells are all equal, and of which none fails, share a row. How it looks is
table.py's, markdown.py's and html.py's business.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.model import Result
from harness.report.outcome import Outcome, outcome, simulated_value, targets_of, value

# Hooks that come in pairs, and what a row that holds both calls them.
_FAMILIES = {
    "xdp": ("xdp-generic", "xdp-native"),
    "tc": ("tc-ingress", "tc-egress"),
    "tcx": ("tcx-ingress", "tcx-egress"),
}
NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one target made of a row."""

    # a value, "rejected", "CRASHED"; NOT_RUN
    text: str
    # None: not run there
    outcome: Outcome | None = None
    # one for each hook of the row
    results: tuple[Result, ...] = ()

    @property
    def good(self) -> bool:
        """Nothing to look at: it agrees, cannot run there, or was not asked to."""
        return self.outcome in (None, Outcome.AGREE, Outcome.UNSUPPORTED)

    @property
    def answers(self) -> bool:
        """Whether the kernel was asked and had its say, a crash included."""
        return self.outcome not in (None, Outcome.UNSUPPORTED, Outcome.LOST)


@dataclass(frozen=True, slots=True)
class Row:
    """A case on one hook, or on several with the same answers."""

    # without the last part of the case's id: "throw/depth"
    topic: str
    # the last part: "static_7", "parse:short"
    name: str
    hooks: tuple[str, ...]
    # the profile follows the kernel, so the simulator may say several things: "64 / 0"
    simulated: str
    # one for each target
    cells: tuple[Cell, ...]

    @property
    def case_id(self) -> str:
        """The case's id."""
        return f"{self.topic}/{self.name}" if self.topic else self.name

    @property
    def good(self) -> bool:
        """Whether no cell fails."""
        return all(cell.good for cell in self.cells)

    @property
    def varies(self) -> bool:
        """Whether targets that ran it answer differently."""
        return len({cell.text for cell in self.cells if cell.answers}) > 1

    def hook_names(self) -> str:
        """The hooks, pairs by their common name: "test_run, xdp"."""
        names: list[str] = []
        for hook in self.hooks:
            family = next((f for f, both in _FAMILIES.items() if hook in both), "")
            name = family if family and set(_FAMILIES[family]) <= set(self.hooks) else hook
            if name not in names:
                names.append(name)
        return ", ".join(names)


def rows(results: Sequence[Result]) -> list[Row]:
    """The matrix of some results; its columns are targets_of(results). Order: of appearance."""
    targets = targets_of(results)
    by_case: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        by_case.setdefault(result.case.id, {}).setdefault(result.case.hook, []).append(result)
    found: list[Row] = []
    for case_id, hooks in by_case.items():
        found += _rows_of_case(case_id, hooks, targets)
    return found


def _rows_of_case(
    case_id: str, hooks: dict[str, list[Result]], targets: Sequence[str]
) -> Iterable[Row]:
    topic, _, name = case_id.rpartition("/")
    merged: list[Row] = []
    for hook, found in hooks.items():
        said = " / ".join(dict.fromkeys(simulated_value(result) for result in found))
        row = Row(topic, name, (hook,), said, tuple(_cell(found, name) for name in targets))
        at = next((i for i, other in enumerate(merged) if _alike(row, other)), None)
        if at is None:
            merged.append(row)
        else:
            merged[at] = _joined(merged[at], row)
    return merged


def _cell(found: Sequence[Result], target: str) -> Cell:
    result = next((r for r in found if r.target == target), None)
    if result is None:
        return Cell(NOT_RUN)
    return Cell(value(result.observed, result.case.hook), outcome(result), (result,))


def _alike(row: Row, other: Row) -> bool:
    def shown(each: Row) -> tuple[object, ...]:
        return (each.simulated, *((cell.text, cell.outcome) for cell in each.cells))

    return row.good and other.good and shown(row) == shown(other)


def _joined(row: Row, other: Row) -> Row:
    cells = tuple(
        Cell(one.text, one.outcome, one.results + two.results)
        for one, two in zip(row.cells, other.cells, strict=True)
    )
    return Row(row.topic, row.name, row.hooks + other.hooks, row.simulated, cells)
