# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How fast a fresh guest is there, and how fast one is there again after a panic.

Three figures: from the decision to restore a saved guest to a case's verdict, from a panic to the
verdict of the case behind it, and what a request to the agent costs that does nothing.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import config, kernels, suite, tools
from harness.build import PROGS
from harness.errors import WorldError
from harness.model import Case, Observation, Verdict
from harness.target import boot
from harness.target.virtual import VirtualTarget

_ROUNDS = 5
_REQUESTS = 200
_TRIES = 100
_OBJECT = Path("throw/main.bpf.c")
_CASE = "throw/main/always"
_PANIC = "echo c > /proc/sysrq-trigger"


def measure(kernel: kernels.Kernel, settings: config.Settings) -> dict[str, Any]:
    """The three figures, each as a list and a median; WorldError when a guest misbehaves."""
    case = next(
        each
        for each in suite.collect([PROGS / _OBJECT])
        if each.id == _CASE and each.hook == "test_run"
    )
    machine = boot.machine_for(kernel, settings)
    tools.say("saving a guest, if there is none")
    _restored(lambda: VirtualTarget(kernel, machine, settings), case)
    restored = []
    for number in range(_ROUNDS):
        tools.say(f"restore {number + 1} of {_ROUNDS}")
        restored.append(_restored(lambda: VirtualTarget(kernel, machine, settings), case))
    target = VirtualTarget(kernel, machine, settings)
    try:
        requests = _requests(target, case)
        recovered = []
        for number in range(_ROUNDS):
            tools.say(f"panic {number + 1} of {_ROUNDS}")
            recovered.append(_recovered(target, case))
    finally:
        target.close()
    return {
        "accelerator": machine.accelerator,
        "restore_to_verdict_s": restored,
        "restore_to_verdict_median_s": statistics.median(restored),
        "panic_to_next_verdict_s": recovered,
        "panic_to_next_verdict_median_s": statistics.median(recovered),
        "request_ms": {
            "median": 1000 * statistics.median(requests),
            "p95": 1000 * statistics.quantiles(requests, n=20)[-1],
            "best": 1000 * min(requests),
        },
        "wanted": "restore <= 1 s, panic <= 1.5 s, request <= 15 ms (medians)",
    }


def _restored(new: Callable[[], VirtualTarget], case: Case) -> float:
    began = time.monotonic()
    target = new()
    try:
        _ran(target.run(case))
        return time.monotonic() - began
    finally:
        target.close()


def _recovered(target: VirtualTarget, case: Case) -> float:
    _ran(target.run(case))
    target.transport.open_session().exec_command(_PANIC)
    # the shell that panics needs its time; what counts begins with the case that it hits
    for _ in range(_TRIES):
        began = time.monotonic()
        seen = target.run(case)
        if seen.verdict is Verdict.CRASHED:
            _ran(target.run(case))
            return time.monotonic() - began
        _ran(seen)
    raise WorldError("the guest does not panic", evidence=seen.kernel_log)


def _requests(target: VirtualTarget, case: Case) -> list[float]:
    _ran(target.run(case))
    return [target.round_trip_s() for _ in range(_REQUESTS)]


def _ran(seen: Observation) -> None:
    if seen.verdict is not Verdict.RAN:
        raise WorldError(f"{_CASE}: {seen.verdict} {seen.message}", evidence=seen.log)
