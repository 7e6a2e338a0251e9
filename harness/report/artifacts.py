# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Whole logs of cases without agreement, one file each: what the table has no room for."""

import re
from collections.abc import Iterable
from pathlib import Path

from harness.model import Result, Verdict
from harness.report.document import write
from harness.report.outcome import Outcome, outcome

_QUIET = (Outcome.AGREE, Outcome.UNSUPPORTED)


def keep(results: Iterable[Result], directory: Path) -> int:
    """Write DIRECTORY/TARGET/CASE-HOOK.log for each; how many. UsageError where that fails."""
    count = 0
    for result in results:
        observed = result.observed
        # what a lost machine said is the same for every case: the report has it once
        if outcome(result) in _QUIET or observed.verdict is Verdict.LOST:
            continue
        parts = [observed.message, observed.log, observed.kernel_log]
        name = re.sub(r"[^\w.-]+", "_", f"{result.case.id}-{result.case.hook}")
        place = directory / re.sub(r"[^\w.~-]+", "_", result.target) / f"{name}.log"
        place.parent.mkdir(parents=True, exist_ok=True)
        write(place, "\n\n".join(part for part in parts if part) + "\n")
        count += 1
    return count
