# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How long one call of bpfthrow-plugin takes, start-up included: for `bpfthrow bench`."""

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.errors import UsageError, WorldError

_ROUNDS = 50
# r0 = *(u64 *)(r1 + 0); exit
_PROGRAM = "79 10 00 00 00 00 00 00  95 00 00 00 00 00 00 00\n"
_MEMORY = "01  02  03  04  05  06  07  08  "
_ANSWER = "807060504030201"


def measure() -> dict[str, Any]:
    """Medians of 50 calls in ms. Raises UsageError where the console script is not installed."""
    plugin = Path(sys.executable).with_name("bpfthrow-plugin")
    if not plugin.exists():
        raise UsageError(f"{plugin}: not there", fix="pip install the project, or: make setup")
    bare, _ = _calls([sys.executable, "-c", f"print('{_ANSWER}')"])
    wall, cpu = _calls([str(plugin), _MEMORY])
    return {
        "call_ms": statistics.median(wall),
        "call_best_ms": min(wall),
        "call_cpu_ms": statistics.median(cpu),
        "python_alone_ms": statistics.median(bare),
        "wanted": "call_ms <= 60 on an idle machine",
    }


def _calls(argv: list[str]) -> tuple[list[float], list[float]]:
    """Wall-clock and CPU ms of each call. Modules are compiled by a first one that is not timed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    wall_ms, cpu_ms = [], []
    for _ in range(_ROUNDS + 1):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            argv, input=_PROGRAM, capture_output=True, text=True, check=False, env=environment
        )
        wall_ms.append((time.perf_counter() - began) * 1e3)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        cpu_ms.append(spent_s * 1e3)
        if done.stdout.strip() != _ANSWER:
            raise WorldError(f"{argv[0]} answered {done.stdout!r}", evidence=done.stderr)
    return wall_ms[1:], cpu_ms[1:]
