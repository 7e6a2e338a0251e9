# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The JSON document, schema 1. Its description is docs/reports.md; problems() enforces it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.hooks import HOOKS
from harness.model import Observation, Result, Verdict
from harness.paths import write_asked
from harness.report import grid
from harness.report.outcome import SUMMARY, Outcome, RunHeader, outcome, summary, targets_of
from harness.wire import to_json

SCHEMA = 1


def document(results: Sequence[Result], header: RunHeader | None = None) -> dict[str, Any]:
    """Plain JSON types for a whole run."""
    targets = targets_of(results)
    return {
        "schema": SCHEMA,
        "summary": summary(results),
        "targets": [_target(name, results, header or RunHeader()) for name in targets],
        "matrix": [_row(row, targets) for row in grid.rows(results)],
        "cases": [case_object(result) for result in results],
    }


def _target(name: str, results: Sequence[Result], header: RunHeader) -> dict[str, Any]:
    target = header.target(name)
    return {
        "name": name,
        "kernel": target.release,
        "accelerator": target.accelerator,
        "jit": target.jit,
        "loader": target.loader,
        "expects_throw": target.expects_throw,
        "seconds": target.seconds,
        "summary": summary(result for result in results if result.target == name),
    }


def _row(row: grid.Row, targets: Sequence[str]) -> dict[str, Any]:
    cells = zip(targets, row.cells, strict=True)
    return {
        "id": row.case_id,
        "hooks": list(row.hooks),
        "simulated": row.simulated,
        "varies": row.varies,
        "cells": {
            name: {"outcome": cell.outcome and str(cell.outcome), "text": cell.text}
            for name, cell in cells
        },
    }


def case_object(result: Result) -> dict[str, Any]:
    """One case on one hook of one target."""
    simulated = result.simulated
    return {
        "id": result.case.id,
        "program": result.case.program,
        "object": result.case.object,
        "hook": result.case.hook,
        "target": result.target,
        "kernel": result.observed.provenance.kernel,
        "status": str(result.observed.verdict),
        "agree": result.agree,
        "flaky": outcome(result) is Outcome.FLAKY,
        "again": None if result.again is None else _again(result.again),
        "simulated": None if simulated is None else observation_object(simulated),
        "observed": observation_object(result.observed),
        "differences": to_json(result.differences),
        "provenance": to_json(result.observed.provenance),
        "duration_s": result.observed.duration_s,
    }


def _again(result: Result) -> dict[str, Any]:
    return {
        "status": str(result.observed.verdict),
        "agree": result.agree,
        "observed": observation_object(result.observed),
        "differences": to_json(result.differences),
    }


def observation_object(observation: Observation) -> dict[str, Any]:
    """One observation; `bpfthrow sim --json` prints the same object."""
    plain: dict[str, Any] = to_json(observation)
    return {"retval": observation.retval, **plain}


def dumps(results: Sequence[Result], header: RunHeader | None = None) -> str:
    """The document as text."""
    return json.dumps(document(results, header), indent=1) + "\n"


def write(path: Path, text: str) -> None:
    """Write a report file. Errors: see paths.write_asked()."""
    write_asked(path, text.encode())


_STR, _INT, _BOOL, _NUMBER = (str,), (int,), (bool,), (int, float)
_LIST, _DICT = (list,), (dict,)
_NONE = type(None)

_DOCUMENT: dict[str, tuple[type, ...]] = {
    "schema": _INT, "summary": _DICT, "targets": _LIST, "matrix": _LIST, "cases": _LIST
}  # fmt: skip
# what a document of an earlier version may lack
_LATER = frozenset({"targets", "matrix"})
_TARGET: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "kernel", "accelerator", "jit", "loader"), _STR),
    "expects_throw": _BOOL,
    "seconds": _NUMBER,
    "summary": _DICT,
}
_ROW: dict[str, tuple[type, ...]] = {
    "id": _STR, "hooks": _LIST, "simulated": _STR, "varies": _BOOL, "cells": _DICT
}  # fmt: skip
_CELL: dict[str, tuple[type, ...]] = {"outcome": (str, _NONE), "text": _STR}
_SUMMARY = dict.fromkeys(SUMMARY, _INT)
_PROVENANCE = dict.fromkeys(
    ("source", "kernel", "accelerator", "jit", "engine", "loader", "attached_by"), _STR
)
_OBSERVATION: dict[str, tuple[type, ...]] = {
    "retval": (int, _NONE),
    "verdict": _STR,
    "retvals": _LIST,
    "message": _STR,
    "errno": (int, _NONE),
    "data_out": (str, _NONE),
    "maps": _DICT,
    "wire": _LIST,
    "splats": _LIST,
    "leaks": _LIST,
    "doubts": _LIST,
    "log": _STR,
    "kernel_log": _STR,
    "trace": _STR,
    "duration_s": _NUMBER,
    "provenance": _DICT,
}
_AGAIN: dict[str, tuple[type, ...]] = {
    "status": _STR,
    "agree": _BOOL,
    "observed": _DICT,
    "differences": _LIST,
}
_DIFFERENCE: dict[str, tuple[type, ...]] = {
    "path": _STR,
    "expected": _STR,
    "observed": _STR,
    "rule": _STR,
    "between": _LIST,
}
_CASE: dict[str, tuple[type, ...]] = {
    "id": _STR,
    "program": _STR,
    "object": _STR,
    "hook": _STR,
    "target": _STR,
    "kernel": _STR,
    "status": _STR,
    "agree": _BOOL,
    "flaky": _BOOL,
    "again": (dict, _NONE),
    "simulated": (dict, _NONE),
    "observed": _DICT,
    "differences": _LIST,
    "provenance": _DICT,
    "duration_s": _NUMBER,
}


def problems(data: Any) -> list[str]:
    """What is wrong with a document, one line each; [] for a valid one."""
    found = _object("$", data, _DOCUMENT)
    if found:
        return found
    if data["schema"] != SCHEMA:
        found.append(f"$.schema: {data['schema']} is not {SCHEMA}")
    found += _object("$.summary", data["summary"], _SUMMARY)
    for index, target in enumerate(data.get("targets", ())):
        found += _object(f"$.targets[{index}]", target, _TARGET)
    for index, row in enumerate(data.get("matrix", ())):
        found += _object(f"$.matrix[{index}]", row, _ROW) or [
            problem
            for name, cell in row["cells"].items()
            for problem in _object(f"$.matrix[{index}].cells.{name}", cell, _CELL)
        ]
    for index, case in enumerate(data["cases"]):
        found += _case(f"$.cases[{index}]", case)
    if not found:
        found += _counts(data["summary"], data["cases"])
    return found


def _case(where: str, case: Any) -> list[str]:
    found = _object(where, case, _CASE)
    if found:
        return found
    if case["hook"] not in HOOKS:
        found.append(f"{where}.hook: unknown hook {case['hook']!r}")
    if case["status"] != case["observed"].get("verdict"):
        found.append(f"{where}.status: not the observed verdict")
    found += _object(f"{where}.provenance", case["provenance"], _PROVENANCE)
    found += _observation(f"{where}.observed", case["observed"])
    if case["simulated"] is not None:
        found += _observation(f"{where}.simulated", case["simulated"])
    for index, difference in enumerate(case["differences"]):
        found += _object(f"{where}.differences[{index}]", difference, _DIFFERENCE)
    if case["again"] is not None:
        found += _object(f"{where}.again", case["again"], _AGAIN)
    if case["flaky"] and case["again"] is None:
        found.append(f"{where}.flaky: true without another attempt")
    if case["agree"] and case["differences"]:
        found.append(f"{where}.agree: true with differences")
    return found


def _observation(where: str, data: Any) -> list[str]:
    found = _object(where, data, _OBSERVATION)
    if not found and data["verdict"] not in set(Verdict):
        found.append(f"{where}.verdict: unknown verdict {data['verdict']!r}")
    if not found:
        found += _object(f"{where}.provenance", data["provenance"], _PROVENANCE)
    return found


def _counts(counts: Mapping[str, int], cases: Sequence[Any]) -> list[str]:
    classes = [name for name in SUMMARY if name not in ("cases", "rejected")]
    checks: Iterable[tuple[str, int, int]] = (
        ("cases", counts["cases"], len(cases)),
        ("agree", counts["agree"], sum(case["agree"] for case in cases)),
        ("sum of classes", sum(counts[name] for name in classes), len(cases)),
    )
    return [f"$.summary: {name} is {is_}, not {want}" for name, is_, want in checks if is_ != want]


def _object(where: str, data: Any, keys: Mapping[str, tuple[type, ...]]) -> list[str]:
    if not isinstance(data, dict):
        return [f"{where}: not an object"]
    found = [f"{where}: missing key {key!r}" for key in keys if key not in {*data, *_LATER}]
    found += [f"{where}: unknown key {key!r}" for key in data if key not in keys]
    # bool is an int to Python, not to JSON: type() rather than isinstance()
    found += [
        f"{where}.{key}: is a {type(data[key]).__name__}"
        for key, kinds in keys.items()
        if key in data and type(data[key]) not in kinds
    ]
    return found
