# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A comparison as a table for terminals, as JSON, and as Markdown for a mail or a CI summary."""

import json
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from harness.regress_model import Change, Compared, Comparison, Effect, Entry, Kind, Policy, Side
from harness.report import columns
from harness.wire import to_json

SCHEMA = 1
# mailing lists quote at this width
_MAIL_COLUMNS = 72
_CELL_COLUMNS = 44
# cases that are left out, named one by one
_NAMED = 10
_TITLES = {
    Effect.REGRESSION: "Regressions",
    Effect.WARNING: "Warnings",
    Effect.CHANGE: "Other changes",
    Effect.IMPROVEMENT: "Improvements",
}
_COUNTED = ("instructions", "states", "peak_states", "time_us")
_WORDS = {"time_us": "verification time (us)", "peak_states": "peak states"}


class Row(NamedTuple):
    """One change of one case, on all the hooks where it is the same."""

    id: str
    hooks: tuple[str, ...]
    change: Change

    @property
    def name(self) -> str:
        return f"{self.id} [{', '.join(self.hooks)}]"


def rows(comparison: Comparison, effect: Effect) -> list[Row]:
    """Every change of that effect, by case."""
    hooks: dict[tuple[str, Change], list[str]] = {}
    for each in comparison.compared:
        for change in each.changes:
            if change.effect is effect:
                hooks.setdefault((each.base.id, change), []).append(each.base.hook)
    found = [Row(name, tuple(where), change) for (name, change), where in hooks.items()]
    return sorted(found, key=lambda row: row.id)


# numbers -------------------------------------------------------------------------------------


class Totals(NamedTuple):
    """Sums over what was compared."""

    # whose counts are known on both
    programs: int
    # name -> (base, patched)
    counts: dict[str, tuple[int, int]]
    duration_s: tuple[float, float]


def totals(comparison: Comparison) -> Totals:
    """What the verifier counted, and durations, summed."""
    known = [each.statistics for each in comparison.compared if each.statistics]
    counts = {}
    for name in _COUNTED:
        pairs = [(getattr(one, name), getattr(other, name)) for one, other in known]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            counts[name] = (sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs))
    base = sum(each.base.observed.duration_s for each in comparison.compared)
    patched = sum(each.patched.observed.duration_s for each in comparison.compared)
    return Totals(len(known), counts, (base, patched))


def counted(comparison: Comparison) -> dict[str, int]:
    """Cases by the effect of their worst change; "unchanged" for none."""
    found = {str(effect): len(comparison.having(effect)) for effect in Effect}
    return {**found, "unchanged": len(comparison.having(None))}


def verdict(comparison: Comparison) -> str:
    """The last line of a report."""
    numbers = counted(comparison)
    parts = [f"{n} {_plural(what, n)}" for what, n in numbers.items()]
    left = len(comparison.left_out)
    tail = f"; {left} not compared" if left else ""
    return f"{len(comparison.compared)} cases compared: {', '.join(parts)}{tail}"


def _plural(word: str, number: int) -> str:
    return word if number == 1 or word == "unchanged" else f"{word}s"


def _total_lines(comparison: Comparison) -> list[str]:
    sums = totals(comparison)
    found = []
    if sums.counts:
        parts = [
            f"{_WORDS.get(name, name)} {one} -> {other}{_percent(one, other)}"
            for name, (one, other) in sums.counts.items()
        ]
        found.append(f"Verifier, {sums.programs} programs: {', '.join(parts)}.")
    one_s, other_s = sums.duration_s
    found.append(f"Cases took {one_s:.1f} s -> {other_s:.1f} s.")
    return found


def _percent(one: float, other: float) -> str:
    return f" ({100 * (other - one) / one:+.1f} %)" if one and one != other else ""


def _left_out(comparison: Comparison) -> list[str]:
    found = [f"{name} [{hook}]: {why}" for name, hook, why in comparison.left_out]
    more = len(found) - _NAMED
    return [*found[:_NAMED], *([f"({more} more: --json FILE has them)"] if more > 0 else [])]


def _sides(comparison: Comparison) -> list[str]:
    return [
        f"{title}: {side.name}{f' ({side.facts})' if side.facts else ''}"
        for title, side in (("base", comparison.base), ("patched", comparison.patched))
    ]


# text ----------------------------------------------------------------------------------------


def text(comparison: Comparison) -> str:
    """The table for a terminal, with the reasons for what is a regression below it."""
    lines = _sides(comparison)
    heading = ("case", "hook", "what", "base", "patched")
    for effect, title in _TITLES.items():
        found = rows(comparison, effect)
        if found:
            lines += ["", f"{title}:", *_table([heading, *(_cells(row) for row in found)])]
    reasons = [
        f"  {row.name}: {row.change.what}: {row.change.why}" for row in _explained(comparison)
    ]
    lines += ["", "Why:", *reasons] if reasons else []
    left = _left_out(comparison)
    lines += ["", "Not compared:", *(f"  {line}" for line in left)] if left else []
    return "\n".join([*lines, "", *_total_lines(comparison), verdict(comparison)]) + "\n"


def _explained(comparison: Comparison) -> Iterator[Row]:
    for effect in (Effect.REGRESSION, Effect.WARNING):
        yield from (row for row in rows(comparison, effect) if _telling(row.change))


def _cells(row: Row) -> tuple[str, ...]:
    change = row.change
    base, patched = _apart(change.base, change.patched)
    return row.id, ", ".join(row.hooks), change.what, _cut(base), _cut(patched)


def _apart(base: str, patched: str) -> tuple[str, str]:
    """Of several lines, those that the other side does not have."""
    one, other = base.splitlines(), patched.splitlines()
    if len(one) < 2 and len(other) < 2:
        return base, patched
    left = [line for line in one if line not in other]
    right = [line for line in other if line not in one]
    return "\n".join(left) or "(nothing more)", "\n".join(right) or "(nothing more)"


def _cut(value: str) -> str:
    line = value.replace("\n", " / ")
    return line if len(line) <= _CELL_COLUMNS else f"{line[: _CELL_COLUMNS - 3]}..."


def _table(cells: Sequence[Sequence[str]]) -> list[str]:
    return [f"  {columns.line(row)}" for row in columns.padded(cells)]


# Markdown ------------------------------------------------------------------------------------


def mail(comparison: Comparison, replay: Sequence[str] = ()) -> str:
    """Markdown that reads well as plain text: lists, no tables, 72 columns.

    `replay`: the words of the command that compared, for the end of the mail.
    """
    title = f"# bpfthrow compare: {comparison.base.name} -> {comparison.patched.name}"
    lines = [title, "", *_wrapped(f"{verdict(comparison)}.", ""), ""]
    lines += [line for side in _sides(comparison) for line in _wrapped(side, "* ")]
    for effect, heading in _TITLES.items():
        found = rows(comparison, effect)
        lines += ["", f"## {heading}", ""] if found else []
        lines += [line for row in found for line in _item(row)]
    left = _left_out(comparison)
    lines += ["", "## Not compared", ""] if left else []
    lines += [line for each in left for line in _wrapped(each, "* ")]
    lines += ["", "## Totals", ""]
    lines += [line for each in _total_lines(comparison) for line in _wrapped(each, "* ")]
    lines += ["", "Run again:", "", *_command(replay)] if replay else []
    return "\n".join(lines) + "\n"


def _item(row: Row) -> list[str]:
    change = row.change
    short = f"{row.name}: {change.what} {change.base} -> {change.patched}"
    if "\n" in short or len(change.base) + len(change.patched) > _CELL_COLUMNS:
        lines = _wrapped(f"{row.name}: {change.what}", "* ")
        for sign, value in (("- ", change.base), ("+ ", change.patched)):
            lines += [each for line in value.splitlines() for each in _quoted(line, sign)]
    else:
        lines = _wrapped(short, "* ")
    return [*lines, *(_wrapped(f"({change.why})", "  ") if _telling(change) else [])]


def _telling(change: Change) -> bool:
    """Whether the reason adds something: that another value is another one needs no words."""
    return bool(change.why) and change.kind not in (Kind.VALUE, Kind.MEMORY)


def _quoted(line: str, sign: str) -> list[str]:
    """A line of code in a Markdown list, cut where it is but one long word."""
    room = _MAIL_COLUMNS - 8
    if len(line) > room and " " not in line:
        line = f"{line[: room - 3]}..."
    return textwrap.wrap(
        line,
        _MAIL_COLUMNS,
        initial_indent=f"      {sign}",
        subsequent_indent="        ",
        break_on_hyphens=False,
    )


def _command(words: Sequence[str]) -> list[str]:
    """A command as indented code, continued with backslashes."""
    found = textwrap.wrap(
        shlex.join(words),
        _MAIL_COLUMNS - 2,
        initial_indent="    ",
        subsequent_indent="        ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [*(f"{line} \\" for line in found[:-1]), *found[-1:]]


def _wrapped(text: str, prefix: str) -> list[str]:
    return textwrap.wrap(
        text,
        _MAIL_COLUMNS,
        initial_indent=prefix,
        subsequent_indent=" " * len(prefix),
        break_long_words=False,
        break_on_hyphens=False,
    )


def summary(comparison: Comparison) -> str:
    """Markdown with tables, as CI services show it on a job's page."""
    mark = "❓" if comparison.lost else "✅"
    mark = "❌" if comparison.having(Effect.REGRESSION) else mark
    lines = [f"### {mark} {comparison.base.name} → {comparison.patched.name}", ""]
    lines += [verdict(comparison), "", *(f"* {_escaped(side)}" for side in _sides(comparison))]
    for effect, title in _TITLES.items():
        found = rows(comparison, effect)
        if found:
            table = list(_markdown_table(found))
            shown = effect in (Effect.REGRESSION, Effect.WARNING)
            lines += ["", *(_open(title, table) if shown else _folded(title, len(found), table))]
    left = [f"* {_escaped(line)}" for line in _left_out(comparison)]
    lines += ["", *_folded("Not compared", len(comparison.left_out), left)] if left else []
    return "\n".join([*lines, "", *(f"* {line}" for line in _total_lines(comparison))]) + "\n"


def _open(title: str, table: Iterable[str]) -> list[str]:
    return [f"#### {title}", "", *table]


def _folded(title: str, number: int, table: Iterable[str]) -> list[str]:
    head = f"<details><summary>{title}: {number}</summary>"
    return [head, "", *table, "", "</details>"]


def _markdown_table(found: Iterable[Row]) -> Iterator[str]:
    yield "| case | hook | what | base | patched | why |"
    yield "|---|---|---|---|---|---|"
    for row in found:
        change = row.change
        cells = (row.id, ", ".join(row.hooks), change.what, change.base, change.patched, change.why)
        yield f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("_", "\\_")):
        text = text.replace(sign, entity)
    return text.replace("\n", "<br>")


# JSON ----------------------------------------------------------------------------------------


def document(comparison: Comparison, policy: Policy) -> dict[str, Any]:
    """Plain JSON types; docs/compare.md describes them."""
    sums = totals(comparison)
    return {
        "schema": SCHEMA,
        "base": _side(comparison.base),
        "patched": _side(comparison.patched),
        "policy": {
            "fail_on": sorted(policy.fail_on),
            "statistics_percent": policy.statistics_percent,
            "duration_factor": policy.duration_factor,
        },
        "summary": {"cases": len(comparison.compared), **counted(comparison)},
        "totals": {"programs": sums.programs, **sums.counts, "duration_s": sums.duration_s},
        "cases": [_case(each) for each in comparison.compared if each.changes or _moved(each)],
        "not_compared": [
            {"id": name, "hook": hook, "why": why} for name, hook, why in comparison.left_out
        ],
    }


def dumps(comparison: Comparison, policy: Policy) -> str:
    """The document as text."""
    return json.dumps(document(comparison, policy), indent=1) + "\n"


def _side(side: Side) -> dict[str, str]:
    return {"name": side.name, "facts": side.facts}


def _moved(each: Compared) -> bool:
    """Whether any count differs, also below what is worth a word."""
    if each.statistics is None:
        return False
    one, other = ({**s.counts(), "time_us": 0} for s in each.statistics)
    return one != other


def _case(each: Compared) -> dict[str, Any]:
    one_other = each.statistics
    return {
        "id": each.base.id,
        "hook": each.base.hook,
        "effect": None if each.effect is None else str(each.effect),
        "changes": to_json(each.changes),
        "statistics": one_other and [dict(side.counts()) for side in one_other],
        "base": _seen(each.base),
        "patched": _seen(each.patched),
    }


def _seen(entry: Entry) -> dict[str, Any]:
    seen = entry.observed
    return {
        "status": str(seen.verdict),
        "agree": entry.agree,
        "flaky": entry.flaky,
        "retvals": list(seen.retvals),
        "wire": list(seen.wire),
        "errno": seen.errno,
        "message": seen.message,
        "splats": list(seen.splats),
        "duration_s": seen.duration_s,
    }
