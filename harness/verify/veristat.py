# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Predictions as CSV that veristat reads (`veristat --compare model.csv kernel.csv`).

Source: tools/testing/selftests/bpf/veristat.c, stat_defs[] and parse_stats_csv(): the header says
which columns follow, and a verdict is `success` or `failure`. What is unknown has no row.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from harness.verify.explain import Answer
from harness.verify.prediction import Verdict

COLUMNS = ("file_name", "prog_name", "verdict", "duration", "total_insns", "prog_size")
_VERDICTS = {Verdict.ACCEPT: "success", Verdict.REJECT: "failure"}


@dataclass(frozen=True, slots=True)
class Timed:
    """An answer and how long the model took for it."""

    answer: Answer
    duration_us: int


def table(rows: Iterable[Timed]) -> str:
    """The CSV, header first."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(COLUMNS)
    for row in rows:
        answer = row.answer
        verdict = _VERDICTS.get(answer.prediction.verdict)
        if verdict is None:
            continue
        size = len(answer.program.insns) if answer.program is not None else 0
        name = answer.file.rpartition("/")[2]
        write((name, answer.name, verdict, row.duration_us, answer.prediction.explored, size))
    return out.getvalue()
