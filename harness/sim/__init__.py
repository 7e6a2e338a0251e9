# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The simulator: executes BPF programs with exceptions, written from the reference alone.

    from harness.sim import Machine

    machine = Machine("parser_xdp.bpf.o", profile="6.12")
    seen = machine.run("live", "eth ipv4 tcp cut=50")
    seen.value, seen.cookies, machine.variable("seen_eth")

docs/library.md describes it. Never imports harness.target or harness.kernels: the second opinion
stays independent. Names are looked up when they are used: who needs only an engine does not pay
for helpers and contexts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.sim.library import Machine, Run
    from harness.sim.machine import DEFAULT_BUDGET
    from harness.sim.run import run_case
    from harness.sim.semantics import DEFAULT_PROFILE, PROFILES

__all__ = ["DEFAULT_BUDGET", "DEFAULT_PROFILE", "PROFILES", "Machine", "Run", "run_case"]

_WHERE = {
    "DEFAULT_BUDGET": "harness.sim.machine",
    "Machine": "harness.sim.library",
    "Run": "harness.sim.library",
    "run_case": "harness.sim.run",
    "DEFAULT_PROFILE": "harness.sim.semantics",
    "PROFILES": "harness.sim.semantics",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
