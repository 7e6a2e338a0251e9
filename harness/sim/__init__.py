# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The simulator: executes BPF programs with exceptions, written from the reference alone.

Never imports harness.target or harness.kernels: the second opinion stays independent.
"""

from harness.sim.machine import DEFAULT_BUDGET
from harness.sim.run import run_case
from harness.sim.semantics import DEFAULT_PROFILE, PROFILES

__all__ = ["DEFAULT_BUDGET", "DEFAULT_PROFILE", "PROFILES", "run_case"]
