# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The verifier model's time for each program beside the time that the kernel's verifier took.

The kernel counts its own (log level 4: "verification time N usec", "processed N insns"); under
emulation it is some ten times slower than on hardware. Only programs that both of them accept, for
the way to a refusal is not the same length for both.
"""

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from harness import config, kernels, suite, tools
from harness.environments import environment_of
from harness.errors import WorldError
from harness.loadstats import statistics as counted
from harness.model import Case, Observation, Verdict
from harness.series import series_of
from harness.target import boot
from harness.target.virtual import VirtualTarget
from harness.verify import accuracy
from harness.verify.accuracy import Judged, Outcome

_SHOWN = 10


class _Both(NamedTuple):
    """One program: milliseconds and instructions explored, of the model and of the kernel."""

    name: str
    model_ms: float
    kernel_ms: float
    explored: int
    processed: int

    def row(self) -> dict[str, float]:
        return {
            "model ms": round(self.model_ms, 1),
            "kernel ms": round(self.kernel_ms, 1),
            "model instructions": self.explored,
            "kernel instructions": self.processed,
        }


class Loader(Protocol):
    """What is asked of a target here."""

    def run(self, case: Case) -> Observation:
        """Load one program; the log has the verifier's counts."""


def measure(kernel: kernels.Kernel, settings: config.Settings) -> dict[str, Any]:
    """Sums and medians over progs/, and the programs that the model takes longest for."""
    machine = boot.machine_for(kernel, settings)
    target = VirtualTarget(kernel, machine, dataclasses.replace(settings, statistics=True))
    try:
        release = target.facts.release
        found = beside(target, suite.collect(), release)
    finally:
        target.close()
    return {"release": release, "accelerator": machine.accelerator, **found}


def beside(target: Loader, cases: Iterable[Case], release: str) -> dict[str, Any]:
    """The programs of cases on a kernel of a release. WorldError if it gives no times."""
    programs = {(case.object, case.program): case for case in cases}.values()
    plain = [case for case in programs if not case.companions]
    series, known = series_of(release), {series_of(release): environment_of(release)}
    tools.say(f"predicting {len(plain)} programs")
    accuracy.measure(plain[:1], (series,), known)  # reads the kernel's types
    accepted = [each for each in accuracy.measure(plain, (series,), known) if _accepted(each)]
    tools.say(f"loading {len(accepted)} of them")
    found = [pair for each in accepted if (pair := _pair(target, each))]
    if not found:
        raise WorldError("the kernel's verifier said of no program how long it took")
    slowest = sorted(found, key=lambda each: -each.model_ms)[:_SHOWN]
    return {
        "programs": len(found),
        "model ms": _spread([each.model_ms for each in found]),
        "kernel ms": _spread([each.kernel_ms for each in found]),
        "model / kernel": round(statistics.median(e.model_ms / e.kernel_ms for e in found), 2),
        "same number of instructions": sum(each.explored == each.processed for each in found),
        "slowest": {each.name: each.row() for each in slowest},
    }


def _accepted(judged: Judged) -> bool:
    right = judged.outcome is Outcome.RIGHT
    return right and judged.claim.verdict is not Verdict.REJECTED


def _pair(target: Loader, judged: Judged) -> _Both | None:
    seen = target.run(_only_loaded(judged.case))
    numbers = counted(seen.log) if seen.verdict is Verdict.RAN else None
    if numbers is None or not numbers.time_us:
        return None
    return _Both(
        judged.case.id.partition(":")[0],
        1e3 * judged.duration_s,
        1e-3 * numbers.time_us,
        judged.prediction.explored,
        numbers.instructions,
    )


def _only_loaded(case: Case) -> Case:
    return dataclasses.replace(case, hook="load", repeat=1)


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "sum": round(sum(values), 1),
        "median": round(statistics.median(values), 2),
        "most": round(max(values), 1),
    }
