# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers that ask for time, chance, CPU, process: all answers come from harness.sim.world.

Time starts at one second and moves by a microsecond for each question. What the world does not
say is unsupported.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.sim.errnos import EINVAL
from harness.sim.helper import Table
from harness.sim.signals import Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_STEP_NS = 1_000
_NS = 1_000_000_000


def _ktime(machine: "Machine") -> int:
    machine.clock_ns += _STEP_NS
    return machine.clock_ns


def _ktime_tai(machine: "Machine") -> int:
    return _ktime(machine) + machine.world.tai_offset_ns


def _jiffies(machine: "Machine") -> int:
    return _ktime(machine) * machine.world.hz // _NS


def _prandom(machine: "Machine") -> int:
    return machine.random.getrandbits(32)


def _cpu(machine: "Machine") -> int:
    return machine.world.cpu


def _node(machine: "Machine") -> int:
    return machine.world.numa_node


def _pid_tgid(machine: "Machine") -> int:
    process = machine.world.process
    if process is None:
        raise Unsupported("who runs the program is not known: give the world a process")
    return process.tgid << 32 | process.pid


def _uid_gid(machine: "Machine") -> int:
    """Root, unless the world says otherwise: tests run programs as root."""
    process = machine.world.process
    return process.gid << 32 | process.uid if process else 0


def _comm(machine: "Machine", target: int, size: int) -> int:
    process = machine.world.process
    if process is None:
        raise Unsupported("who runs the program is not known: give the world a process")
    if not size:
        return EINVAL
    machine.memory.clear(target, size)
    machine.memory.write(target, process.comm[: size - 1])
    return 0


def _given(name: str, what: str) -> Callable[..., int]:
    """The world's field `name`."""

    def ask(machine: "Machine", *_args: int) -> int:
        answer = getattr(machine.world, name)
        if answer is None:
            raise Unsupported(f"{what} is not known: give the world one")
        return int(answer)

    return ask


_CLOCK = "1 s and a microsecond a question"
_WORLD = "from the world, else unsupported"
HELPERS: Table = {
    5: ("bpf_ktime_get_ns", 0, _ktime, _CLOCK),
    7: ("bpf_get_prandom_u32", 0, _prandom, "from the seed"),
    8: ("bpf_get_smp_processor_id", 0, _cpu, "from the world, 0"),
    14: ("bpf_get_current_pid_tgid", 0, _pid_tgid, _WORLD),
    15: ("bpf_get_current_uid_gid", 0, _uid_gid, "from the world, root"),
    16: ("bpf_get_current_comm", 2, _comm, _WORLD),
    42: ("bpf_get_numa_node_id", 0, _node, "from the world, 0"),
    46: ("bpf_get_socket_cookie", 1, _given("socket_cookie", "the socket's cookie"), _WORLD),
    47: ("bpf_get_socket_uid", 1, _given("socket_uid", "the socket's owner"), _WORLD),
    79: ("bpf_skb_cgroup_id", 1, _given("cgroup_id", "the cgroup"), _WORLD),
    80: ("bpf_get_current_cgroup_id", 0, _given("cgroup_id", "the cgroup"), _WORLD),
    118: ("bpf_jiffies64", 0, _jiffies, "the same clock, at 250 Hz"),
    122: ("bpf_get_netns_cookie", 1, _given("netns_cookie", "the network namespace"), _WORLD),
    125: ("bpf_ktime_get_boot_ns", 0, _ktime, _CLOCK),
    160: ("bpf_ktime_get_coarse_ns", 0, _ktime, _CLOCK),
    174: ("bpf_get_attach_cookie", 1, _given("attach_cookie", "the cookie"), "from the world, 0"),
    208: ("bpf_ktime_get_tai_ns", 0, _ktime_tai, "the same clock and the world's offset"),
}
