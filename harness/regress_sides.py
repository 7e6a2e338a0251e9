# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One side of a comparison: from a run that has just ended, or from the JSON of an earlier one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import wire
from harness.compare import REACHED, has_say
from harness.errors import UsageError
from harness.model import Difference, Observation, Result
from harness.reading import read_asked
from harness.regress_model import Entry, Side
from harness.report import document
from harness.report.outcome import Outcome, Tested, first_line, outcome

# far above what a run of everything on all kernels writes
_MAX_BYTES = 256 << 20
_AGAIN = "write it again with `bpfthrow run --json FILE`"


def is_file(spec: str) -> bool:
    """Whether a spec names a saved run: FILE.json, or FILE.json@TARGET."""
    return _parts(spec)[0].endswith(".json")


def from_results(
    name: str, tested: Tested | None, results: Sequence[Result], *, over_tags: bool = False
) -> Side:
    """The side of a target that has just been run.

    `over_tags`: where the simulator has a say it alone judges, for the kernel is meant to behave
    otherwise than the tags say.
    """
    found = [_judged(result, over_tags=over_tags) for result in results]
    return Side(name, tested.facts() if tested else "", {entry.key: entry for entry in found})


def _judged(result: Result, *, over_tags: bool) -> Entry:
    differences = result.differences
    if over_tags and has_say(result.simulated):
        differences = tuple(each for each in differences if "declared" not in each.between)
    return Entry(
        result.case.id,
        result.case.hook,
        result.case.object,
        result.observed,
        not differences and result.observed.verdict in REACHED,
        _words(differences),
        outcome(result) is Outcome.FLAKY,
    )


def from_file(spec: str) -> Side:
    """The side that FILE.json holds, or FILE.json@TARGET where it holds several targets.

    UsageError for a file that cannot be read, is no run, or leaves the target open.
    """
    path, wanted = _parts(spec)
    cases = _cases(Path(path))
    targets = list(dict.fromkeys(case["target"] for case in cases))
    if wanted and wanted not in targets:
        raise UsageError(f"{path}: no target {wanted!r}", fix=f"it has {', '.join(targets)}")
    if len(targets) > 1 and not wanted:
        raise UsageError(
            f"{path} has several targets: {', '.join(targets)}", fix=f"--base {path}@{targets[0]}"
        )
    own = [case for case in cases if case["target"] == (wanted or targets[0])]
    found = [_entry(case, f"{path}: {case['id']}") for case in own]
    name = f"{Path(path).name}@{wanted or targets[0]}"
    return Side(name, _facts(found), {entry.key: entry for entry in found})


def _parts(spec: str) -> tuple[str, str]:
    path, at, target = spec.rpartition("@")
    return (path, target) if at and path.endswith(".json") else (spec, "")


def _cases(path: Path) -> list[dict[str, Any]]:
    text = read_asked(path, _MAX_BYTES, _AGAIN)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", fix=_AGAIN) from error
    wrong = document.problems(data)
    if wrong:
        raise UsageError(f"{path} is not the JSON of a run: {wrong[0]}", fix=_AGAIN)
    if not data["cases"]:
        raise UsageError(f"{path} holds no case", fix=_AGAIN)
    cases: list[dict[str, Any]] = data["cases"]
    return cases


def _entry(case: dict[str, Any], where: str) -> Entry:
    seen = {key: value for key, value in case["observed"].items() if key != "retval"}
    differences = tuple(
        wire.from_json(Difference, item, f"{where}: differences") for item in case["differences"]
    )
    return Entry(
        case["id"],
        case["hook"],
        case["object"],
        wire.from_json(Observation, seen, f"{where}: observed"),
        case["agree"],
        _words(differences),
        case["flaky"],
    )


def _facts(entries: Sequence[Entry]) -> str:
    known = [e.observed.provenance for e in entries if e.observed.provenance.kernel]
    if not known:
        return ""
    first = known[0]
    return Tested("", first.kernel, first.accelerator, first.jit, first.loader).facts()


def _words(differences: Sequence[Difference]) -> str:
    if not differences:
        return ""
    first = differences[0]
    expected, observed = first_line(first.expected), first_line(first.observed)
    left, right = first.between
    return f"{first.path}: {left} {expected}, {right} {observed}"
