# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the verifier model is worth: predictions of progs/ against the cases' claims, and its pace.

Part of `bpfthrow bench`; no kernel. The counts do not depend on the machine, the times do.
"""

import statistics
from typing import Any

from harness.series import SERIES
from harness.suite import collect
from harness.verify import accuracy
from harness.verify.accuracy import Judged

# a program that is worth timing explores this many instructions
_LEAST = 100


def measure() -> dict[str, Any]:
    """Counts for each series; milliseconds for 1,000 instructions explored, and at most."""
    judged = accuracy.measure(collect())
    paced = [1e6 * each.duration_s / each.prediction.explored for each in _large(judged)]
    return {
        **{series: _count(judged, series) for series in SERIES},
        "ms per 1000 instructions": round(statistics.median(paced), 1),
        "ms per program, median": _ms(statistics.median(each.duration_s for each in judged)),
        "ms per program, most": _ms(max(each.duration_s for each in judged)),
    }


def _large(judged: list[Judged]) -> list[Judged]:
    return [each for each in judged if each.prediction.explored >= _LEAST]


def _count(judged: list[Judged], series: str) -> dict[str, Any]:
    found = accuracy.count(each for each in judged if each.series == series)
    return {
        "right": found.right,
        "wrong": found.wrong,
        "unknown": found.unknown,
        "decided": f"{found.decided:.1%}",
    }


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 1)
