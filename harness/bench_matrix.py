# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a matrix costs against its kernels one by one: wall clock and CPU time, guests included.

Both sides run the whole suite with warm caches. Prints progress only.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import config, tools
from harness.errors import Exit, WorldError
from harness.kernels import spec

_CHECKOUT = Path(__file__).resolve().parent.parent
# restores each guest once, or boots and saves it
_WARM_UP = ("-k", "throw/main/always", "--hook", "test_run")


@dataclass(frozen=True, slots=True)
class _Cost:
    wall_s: float
    # user and system, of the command and all that it waited for: QEMU is among that
    cpu_s: float


def measure(settings: config.Settings, *chosen: str) -> dict[str, Any]:
    """Run each kernel by itself, then all together. `chosen`: arguments that select cases.

    The kernels are those of the settings, or all of the catalogue where that is only one.
    """
    names = spec.expand(settings.kernel or ("default",))
    if len(names) < 2:
        names = spec.expand(("all",))
    tools.say("matrix: warming up")
    _run(names, settings, _WARM_UP)
    single = {}
    for name in names:
        tools.say(f"matrix: {name} by itself")
        single[name] = _run([name], settings, chosen)
    tools.say("matrix: all together")
    together = _run(names, settings, chosen)
    wall_s = sum(cost.wall_s for cost in single.values())
    cpu_s = sum(cost.cpu_s for cost in single.values())
    return {
        "kernels": list(names),
        "single_wall_s": {name: cost.wall_s for name, cost in single.items()},
        "single_cpu_s": {name: cost.cpu_s for name, cost in single.items()},
        "matrix": {"wall_s": together.wall_s, "cpu_s": together.cpu_s},
        "sum": {"wall_s": wall_s, "cpu_s": cpu_s},
        "cpu_ratio": together.cpu_s / cpu_s,
        "wall_ratio": together.wall_s / wall_s,
        "wanted": "cpu_ratio <= 1.3, wall_ratio <= 0.65 on 2 cores",
    }


def _run(names: list[str], settings: config.Settings, chosen: tuple[str, ...]) -> _Cost:
    argv = [sys.executable, "-m", "harness.cli", "run", "--quiet", *chosen]
    argv += ["--accelerator", settings.accelerator]
    argv += [word for name in names for word in ("--kernel", name)]
    began_s = time.monotonic()
    with subprocess.Popen(
        argv,
        cwd=_CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    # a difference costs as much as agreement
    if process.returncode not in (Exit.OK, Exit.DIFFERENCE):
        raise WorldError(f"the run on {', '.join(names)} failed", evidence=said)
    return _Cost(time.monotonic() - began_s, used.ru_utime + used.ru_stime)
