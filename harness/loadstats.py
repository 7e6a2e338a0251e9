# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the verifier counted while it looked at a program, read from its log.

A refused program's log always has the counts; an accepted one's where the run asked for them
(--statistics). Formats: print_verification_stats() of the kernel's kernel/bpf/verifier.c.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Statistics(NamedTuple):
    """Counts of one load; None where this kernel or this log does not say."""

    # instructions looked at, over all paths
    instructions: int
    # states kept over the whole run, at most at once, and at most at one instruction
    states: int | None = None
    peak_states: int | None = None
    states_per_instruction: int | None = None
    # bytes of stack: of all functions together (6.18 and earlier say it so), or of the deepest
    # chain of calls (7.3)
    stack_sum_bytes: int | None = None
    stack_max_bytes: int | None = None
    time_us: int | None = None

    def counts(self) -> Mapping[str, int]:
        """Those that are known, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


_PROCESSED = re.compile(r"processed (\d+) insns \(limit \d+\)")
_FIELDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("states", re.compile(r"\btotal_states (\d+)")),
    ("peak_states", re.compile(r"\bpeak_states (\d+)")),
    ("states_per_instruction", re.compile(r"\bmax_states_per_insn (\d+)")),
    ("stack_sum_bytes", re.compile(r"(?m)^stack depth (\d[\d+]*)")),
    ("stack_max_bytes", re.compile(r"(?m)^stack depth max (\d+)")),
    ("time_us", re.compile(r"(?m)^verification time (\d+) usec")),
)


def statistics(log: str) -> Statistics | None:
    """Counts of the last load in `log`; None where there are none."""
    found = list(_PROCESSED.finditer(log))
    if not found:
        return None
    # what that load printed before "processed", not the words of the load before it
    start = _line_end(log, found[-2].end()) if len(found) > 1 else 0
    own = log[start : _line_end(log, found[-1].end())]
    fields: dict[str, int] = {}
    for name, pattern in _FIELDS:
        if hit := pattern.search(own):
            # 6.x: "stack depth 16+8", one number a function
            fields[name] = sum(int(part) for part in hit[1].split("+") if part)
    return Statistics(int(found[-1][1]), **fields)


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end
