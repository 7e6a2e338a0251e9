# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow conformance`: a directory of .data vectors through an engine or a plugin's command."""

import argparse
import json
import shlex
import statistics
from collections import Counter
from pathlib import Path

from harness.conformance import runner, vectors
from harness.conformance.machine import ENGINES
from harness.conformance.runner import FAILED, PASSED, SKIPPED, Outcome
from harness.errors import Exit

_EPILOG = """\
examples:
  bpfthrow conformance tests/conformance/vectors
  bpfthrow conformance ~/bpf_conformance/tests --engine source
  bpfthrow conformance tests/conformance/vectors/add64 --plugin .venv/bin/bpfthrow-plugin
  bpfthrow conformance ~/bpf_conformance/tests --json > conformance.json

exit codes: 0 all that ran passed, 1 one failed or none ran, 2 wrong usage
"""
_COLUMNS = (PASSED, FAILED, SKIPPED)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line's tree."""
    parser = commands.add_parser(
        "conformance",
        help="run vectors in the format of bpf_conformance",
        description="Run a directory of .data files, the public suite's or ours.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("directory", type=Path, metavar="DIR", help="directory of .data files, or one file")
    add("--engine", default="reference", choices=list(ENGINES), help="default: reference")
    add("--plugin", metavar="COMMAND", help="start this for each vector, as the public runner does")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the vectors and print the table, or JSON."""
    found = vectors.read(arguments.directory)
    if arguments.plugin:
        execute, by = runner.by_plugin(shlex.split(arguments.plugin)), "plugin"
    else:
        execute, by = runner.by_engine(arguments.engine), arguments.engine
    outcomes = runner.run_all(found, execute)
    ran = [outcome for outcome in outcomes if outcome.verdict != SKIPPED]
    if arguments.json:
        print(json.dumps(_document(by, outcomes), indent=2))
    else:
        print(_text(by, outcomes))
    good = bool(ran) and all(outcome.verdict == PASSED for outcome in ran)
    return Exit.OK if good else Exit.DIFFERENCE


def _median_ms(outcomes: list[Outcome]) -> float | None:
    took_s = [outcome.took_s for outcome in outcomes if outcome.took_s]
    return round(statistics.median(took_s) * 1e3, 3) if took_s else None


def _document(by: str, outcomes: list[Outcome]) -> dict[str, object]:
    counts = Counter(outcome.verdict for outcome in outcomes)
    return {
        "schema": 1,
        "by": by,
        **{column: counts[column] for column in _COLUMNS},
        "median_ms": _median_ms(outcomes),
        # what the engine declined
        "by_others": dict(_others(by, outcomes)),
        "groups": {
            group: {column: count[column] for column in _COLUMNS}
            for group, count in _groups(outcomes).items()
        },
        "reasons": {
            outcome.name: {"verdict": outcome.verdict, "reason": outcome.reason}
            for outcome in outcomes
            if outcome.reason
        },
    }


def _others(by: str, outcomes: list[Outcome]) -> Counter[str]:
    """Engine -> how many vectors it ran instead of the one that was asked for."""
    return Counter(outcome.engine for outcome in outcomes if outcome.engine not in ("", by))


def _groups(outcomes: list[Outcome]) -> dict[str, Counter[str]]:
    groups: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.group, Counter())[outcome.verdict] += 1
    return dict(sorted(groups.items()))


def _text(by: str, outcomes: list[Outcome]) -> str:
    groups = _groups(outcomes)
    width = max(len(group) for group in [*groups, "group", "all"])
    lines = [f"{'group':{width}}" + "".join(f"{column:>9}" for column in _COLUMNS)]
    total: Counter[str] = Counter()
    for group, count in groups.items():
        total += count
        lines.append(_row(group, count, width))
    lines.append(_row("all", total, width))
    lines += [f"{o.verdict}: {o.name}: {o.reason}" for o in outcomes if o.reason]
    if not total[PASSED] + total[FAILED]:
        lines.append("no vector ran")
    lines += [f"{count} by {other}" for other, count in _others(by, outcomes).items()]
    median = _median_ms(outcomes)
    lines.append(f"by {by}" + (f", {median:.3g} ms each (median)" if median else ""))
    return "\n".join(lines)


def _row(name: str, count: Counter[str], width: int) -> str:
    return f"{name:{width}}" + "".join(f"{count[column] or '-':>9}" for column in _COLUMNS)
