# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers of tracing and cgroup programs on what they watch: arguments, results, verdicts.

Sources: kernel/trace/bpf_trace.c, kernel/bpf/cgroup.c.
"""

from typing import TYPE_CHECKING

from harness.sim.alu import M32, signed
from harness.sim.errnos import EINVAL, EOPNOTSUPP
from harness.sim.helper import Table
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine


def _watched(machine: "Machine", context: int) -> tuple[int, bool]:
    """How many arguments the watched function has, and whether its result is there."""
    found = machine.recorder.watched.get(context >> 32)
    if found is None:
        raise Fault("R1 is not the context of a program that watches a function")
    return found


def _arg(machine: "Machine", context: int, index: int, target: int) -> int:
    count, _ = _watched(machine, context)
    if index & M32 >= count:
        return EINVAL
    machine.memory.store(target, 8, machine.memory.load(context + 8 * (index & M32), 8))
    return 0


def _ret(machine: "Machine", context: int, target: int) -> int:
    count, has_result = _watched(machine, context)
    if not has_result:
        return EOPNOTSUPP
    machine.memory.store(target, 8, machine.memory.load(context + 8 * count, 8))
    return 0


def _arg_count(machine: "Machine", context: int) -> int:
    return _watched(machine, context)[0]


def _get_retval(machine: "Machine") -> int:
    if not machine.program_type.startswith("cgroup"):
        raise Unsupported("bpf_get_retval outside cgroup programs")
    return machine.context.retval


def _set_retval(machine: "Machine", value: int) -> int:
    if not machine.program_type.startswith("cgroup"):
        raise Unsupported("bpf_set_retval outside cgroup programs")
    machine.context.retval = signed(value, 32)
    return 0


HELPERS: Table = {
    183: ("bpf_get_func_arg", 3, _arg, "fentry and fexit"),
    184: ("bpf_get_func_ret", 2, _ret, "fexit"),
    185: ("bpf_get_func_arg_cnt", 1, _arg_count, "fentry and fexit"),
    186: ("bpf_get_retval", 0, _get_retval, "cgroup programs"),
    187: ("bpf_set_retval", 1, _set_retval, "cgroup programs; what they leave is recorded"),
}
