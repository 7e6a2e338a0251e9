# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Going on with an interrupted run: which one, what of it counts, what is left to do.

A run is known by what was chosen: paths, -k, and the settings that decide what is run where. The
case that was running when the harness was killed is the culprit: it is shown as lost and not run
again unless that is asked for, since it may do the same again.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from harness import config, journal, kernels, tools
from harness.config import Settings
from harness.errors import UsageError
from harness.journal import Journal, Keys, Record
from harness.model import Case, Observation, Provenance, Result, Verdict
from harness.report.outcome import Tested

# settings that may differ when a run is gone on with: where reports go, how patient to be
_FREE = (
    "json",
    "junit",
    "html",
    "markdown",
    "artifacts",
    "timeout_scale",
    "keep_vm",
    "cold",
    "retries",
)
CULPRIT = "was running when the harness was killed; not run again without --retry-culprit"


@dataclasses.dataclass(slots=True)
class Ledger:
    """The journal of this run, and what an earlier one has done of it already."""

    journal: Journal | None
    record: Record | None = None
    retry_culprit: bool = False
    # whether a culprit was not run again
    _left_out: bool = False
    _keys: Keys = dataclasses.field(default_factory=Keys)
    _identities: dict[str, str] = dataclasses.field(default_factory=dict)

    def open(self, spec: str) -> None:
        """A target's turn: what its kernel is, and whether earlier results are of the same one."""
        identity = self._identities[spec] = _identity(spec)
        if self.record is not None and not self.record.keep(spec, identity):
            tools.say(f"{spec} is not the kernel that it was: all of its cases run again")
        if self.journal is not None:
            self.journal.tested(spec, identity)

    def earlier(self, spec: str, cases: Iterable[Case]) -> list[Result]:
        """Results that need not be had again, the culprits' among them."""
        if self.record is None:
            return []
        found = []
        for case in cases:
            key = self._keys.of(spec, case)
            if key in self.record.culprits and not self.retry_culprit:
                self._left_out = True
                tested = self.tested(spec)
                found.append(_culprit(case, tested.name if tested else spec.replace(":", "-")))
            elif key in self.record.results:
                found.append(dataclasses.replace(self.record.results[key], case=case))
        return found

    def tested(self, spec: str) -> Tested | None:
        """What a target was found to be in the earlier run."""
        return self.record.tested.get(spec) if self.record else None

    def attempted(self, spec: str, case: Case) -> None:
        """On disk when this returns: the case is about to run."""
        if self.journal is not None:
            self.journal.attempted(self._keys.of(spec, case))

    def result(self, spec: str, result: Result, tested: Tested | None) -> None:
        """What came of it. A lost machine is nothing to keep: the case has not been tried."""
        if self.journal is None:
            return
        key = self._keys.of(spec, result.case)
        if result.observed.verdict is Verdict.LOST:
            self.journal.released(key)
            return
        self.journal.result(key, result)
        if tested is not None and self._identities.get(spec) is not None:
            self.journal.tested(spec, self._identities.pop(spec), tested)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The journal goes, unless there is something left to go on with."""
        if self.journal is None:
            return
        if kind is None and self._left_out:
            self.journal.close()  # --retry-culprit may still be wanted
        elif kind is None or not (self.journal.used or self.record):
            self.journal.done()
        else:
            self.journal.left()
            tools.say("what was done is kept; to go on: bpfthrow run --resume")


def new(arguments: argparse.Namespace, settings: Settings) -> Ledger:
    """The ledger of a run that begins."""
    return Ledger(journal.begin(_selection(arguments, settings)))


def last(arguments: argparse.Namespace, settings: Settings) -> tuple[Ledger, Settings]:
    """The ledger of the last interrupted run that was chosen as this one, and its settings.

    What is not given is taken from it: `arguments` is completed. UsageError where there is none.
    """
    wanted = _selection(arguments, settings)
    found = next((r for r in journal.interrupted() if _matches(r, wanted, settings)), None)
    if found is None:
        raise UsageError(
            "no interrupted run of this choice to go on with",
            fix="give the paths and options of the interrupted run, or none; or run it anew",
        )
    arguments.paths = found.selection["paths"]
    arguments.expression = found.selection["expression"]
    arguments.expect = found.selection.get("expect", [])
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.began))
    attempts = f"; {len(found.culprits)} ran when it was killed" if found.culprits else ""
    tools.say(f"going on with the run of {began}: {len(found.results)} results are there{attempts}")
    ledger = Ledger(journal.resume(found), found, arguments.retry_culprit)
    return ledger, _restored(found, settings)


def _selection(arguments: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    values = {setting.name: getattr(settings, setting.name) for setting in config.TABLE}
    return {
        "directory": str(Path.cwd()),
        "paths": [str(path) for path in arguments.paths],
        "expression": arguments.expression,
        "expect": [str(path) for path in getattr(arguments, "expect", ())],
        "settings": {name: _plain(value) for name, value in values.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _matches(record: Record, wanted: dict[str, Any], settings: Settings) -> bool:
    had = record.selection
    if had["directory"] != wanted["directory"]:
        return False
    choice = ("paths", "expression", "expect")
    if any(wanted[name] and had.get(name) != wanted[name] for name in choice):
        return False
    given = [name for name in wanted["settings"] if settings.source(name) == "command line"]
    return all(
        had["settings"].get(name) == wanted["settings"][name] for name in given if name not in _FREE
    )


def _restored(record: Record, settings: Settings) -> Settings:
    values: dict[str, Any] = {}
    for name, value in record.selection["settings"].items():
        setting = config.BY_NAME.get(name)
        if setting is None or settings.source(name) == "command line" or value in ("", None, []):
            continue
        words = value if setting.many else [str(value)]
        parsed = [setting.parse(word) for word in words]
        values[name] = tuple(parsed) if setting.many else parsed[0]
    return dataclasses.replace(settings, **values)


def _identity(spec: str) -> str:
    if spec == "local":
        return os.uname().release
    if not spec.startswith("vm:"):
        return ""  # what ssh reaches is known only when it is reached
    image = kernels.resolve(spec.removeprefix("vm:")).image
    info = image.stat()
    return f"{image} {info.st_size} {info.st_mtime_ns}"


def _culprit(case: Case, target: str) -> Result:
    observed = Observation(
        Verdict.LOST,
        message=f"{case.id} [{case.hook}] {CULPRIT}",
        provenance=Provenance(source=target),
    )
    return Result(case, target, observed)


def in_order(results: Sequence[Result], cases: Sequence[Case]) -> list[Result]:
    """Results in the order of the cases, whenever they were had."""
    place = {(case.id, case.hook): index for index, case in enumerate(cases)}
    return sorted(results, key=lambda result: place[result.case.id, result.case.hook])
