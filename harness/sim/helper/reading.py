# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers that read memory by any address (kernel/trace/bpf_trace.c, kernel/bpf/helpers.c).

Only the program's own memory is known. There is no user memory: its first page faults, as it does
in every process, and the rest is unsupported.
"""

from typing import TYPE_CHECKING

from harness.sim import text
from harness.sim.errnos import EFAULT, ERANGE
from harness.sim.helper import Table
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_USER_SPACE_BYTES = 1 << 47
_PAGE_BYTES = 4096


def _kernel(machine: "Machine", target: int, size: int, source: int) -> int:
    """A user address is out of range; what else could be read is only known of our own memory."""
    if source < _USER_SPACE_BYTES:
        machine.memory.clear(target, size)
        return ERANGE
    try:
        data = machine.memory.read(source, size)
    except Fault as fault:
        raise Unsupported("bpf_probe_read_kernel of an address outside the program") from fault
    machine.memory.write(target, data)
    return 0


def _kernel_str(machine: "Machine", target: int, size: int, source: int) -> int:
    """Bytes with the NUL behind them."""
    if source < _USER_SPACE_BYTES:
        machine.memory.clear(target, size)
        return ERANGE
    if not size:
        return 0
    try:
        data = text.string_at(machine.memory, source, size)
    except Fault as fault:
        raise Unsupported("bpf_probe_read_kernel_str outside the program") from fault
    cut = data[: size - 1] + b"\0"
    machine.memory.write(target, cut)
    return len(cut)


def _user(machine: "Machine", target: int, size: int, source: int) -> int:
    if source >= _PAGE_BYTES:
        raise Unsupported("reading of a user address")
    machine.memory.clear(target, size)
    return EFAULT if size else 0


def _read(machine: "Machine", target: int, size: int, source: int) -> int:
    """bpf_probe_read(): by the address."""
    read = _user if source < _USER_SPACE_BYTES else _kernel
    return read(machine, target, size, source)


def _read_str(machine: "Machine", target: int, size: int, source: int) -> int:
    read = _user if source < _USER_SPACE_BYTES else _kernel_str
    return read(machine, target, size, source)


_OWN = "of the program's own memory"
_NULL = "the first page only, which faults"
HELPERS: Table = {
    4: ("bpf_probe_read", 3, _read, _OWN),
    45: ("bpf_probe_read_str", 3, _read_str, _OWN),
    112: ("bpf_probe_read_user", 3, _user, _NULL),
    113: ("bpf_probe_read_kernel", 3, _kernel, _OWN),
    114: ("bpf_probe_read_user_str", 3, _user, _NULL),
    115: ("bpf_probe_read_kernel_str", 3, _kernel_str, _OWN),
    148: ("bpf_copy_from_user", 3, _user, _NULL),
}
