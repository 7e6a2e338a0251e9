# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""In which order targets run, how many at once, and how long they took last time.

Owns the record of durations in the cache. Starts nothing.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness import tools
from harness.errors import BpfthrowError
from harness.model import Case, Result, Verdict
from harness.paths import cache_dir, locked, replace_file

# spec of a target -> "CASE HOOK" -> seconds that the target was busy with it
Durations = dict[str, dict[str, float]]

_SCHEMA = 1
# what is not run any more goes at some time: targets, cases of one target
_KEPT_TARGETS = 40
_KEPT_CASES = 10_000
# of QEMU beside the guest's memory, and what the rest of the machine is left
_QEMU_MIB = 100
_RESERVE_MIB = 512


def durations_file() -> Path:
    """Where the record is."""
    return cache_dir() / "durations.json"


def durations() -> Durations:
    """What is known; {} where there is no record, or none of ours."""
    try:
        document = json.loads(durations_file().read_text())
        known = document["targets"] if document["schema"] == _SCHEMA else {}
        return {
            str(spec): {str(key): float(seconds) for key, seconds in cases.items()}
            for spec, cases in known.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def key(case: Case) -> str:
    """What a case is called in the record."""
    return f"{case.id} {case.hook}"


def record(measured: Mapping[str, Iterable[tuple[Result, float]]]) -> None:
    """Add the seconds of each result, by target; another process's additions stay.

    The record is replaced at once, or stays what it was; where it cannot be written, that is said.
    """
    found = {
        spec: {key(result.case): round(s, 4) for result, s in rows if _telling(result)}
        for spec, rows in measured.items()
    }
    if not any(found.values()):
        return
    try:
        with locked("durations"):
            known = durations()
            for spec, cases in found.items():
                # last, as the one that was used last
                merged = known.pop(spec, {}) | cases
                known[spec] = dict(list(merged.items())[-_KEPT_CASES:])
            kept = dict(list(known.items())[-_KEPT_TARGETS:])
            text = json.dumps({"schema": _SCHEMA, "targets": kept})
            replace_file(durations_file(), text.encode())
    except (OSError, BpfthrowError) as error:
        tools.say(f"durations were not recorded: {getattr(error, 'message', None) or error}")


def _telling(result: Result) -> bool:
    # a crash ends a case early, and a deadline says nothing of the next time
    return result.observed.verdict in (Verdict.RAN, Verdict.REJECTED, Verdict.UNSUPPORTED)


def expected_s(cases: Iterable[Case], known: Mapping[str, float]) -> float | None:
    """Seconds that a target is likely to take for `cases`; None where nothing is known of it."""
    keys = [key(case) for case in cases]
    found = [known[each] for each in keys if each in known]
    # a new case is as long as the others
    return sum(found) / len(found) * len(keys) if found else None


def longest_first(specs: Sequence[str], known: Durations) -> list[str]:
    """The order in which targets are to begin, so that none is left over at the end.

    By what one case takes, since all targets get the same ones. A target that nobody has seen may
    be the longest, and is first.
    """

    def cost(spec: str) -> float:
        seconds = known.get(spec, {}).values()
        return sum(seconds) / len(seconds) if seconds else float("inf")

    return sorted(specs, key=cost, reverse=True)


def at_once(
    guests: int, cpus: int, memory_mib: int, *, cores: int = 0, free_mib: int | None = None
) -> int:
    """How many of `guests` guests run side by side: one or more, as cores and memory allow.

    A guest keeps its processors busy, the host hardly any. `cores` and `free_mib`: of this
    machine where they are not given.
    """
    cores = cores or len(os.sched_getaffinity(0))
    free_mib = available_mib() if free_mib is None else free_mib
    by_cores = cores // cpus
    by_memory = (free_mib - _RESERVE_MIB) // (memory_mib + _QEMU_MIB)
    return max(1, min(guests, by_cores, by_memory))


def available_mib(
    meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")
) -> int:
    """Memory that new processes can have, in MiB: of the machine, or of our cgroup if less."""
    lines = meminfo.read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) >> 10
    with suppress(OSError, ValueError):  # no cgroup v2, or "max": no limit
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        pairs = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        # pages of files that the kernel gives back first
        spare = next((int(size) for name, size in pairs if name == "inactive_file"), 0)
        free = min(free, (limit - used + spare) >> 20)
    return free
