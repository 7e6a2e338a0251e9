# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a program can ask of the world around it: CPU, process, clock. All of it is an input.

The same world gives the same run, bit for bit. What a kernel would answer from the machine that
it runs on has no default here: a helper that asks for it is unsupported until it is given.
"""

from dataclasses import dataclass, field
from typing import Any

from harness.sim.memory import Region
from harness.sim.signals import Unsupported

_MAX_RECORDED_BYTES = 16 << 20
_RECORD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Process:
    """Who runs the program: answers of bpf_get_current_pid_tgid, _uid_gid, _comm."""

    tgid: int
    pid: int
    uid: int = 0
    gid: int = 0
    # at most 15 bytes
    comm: bytes = b""


@dataclass(frozen=True, slots=True)
class World:
    """Seeded inputs of a machine."""

    # CPUs of the machine, and the one that runs the program
    cpus: int = 1
    cpu: int = 0
    numa_node: int = 0
    # what bpf_ktime_get_tai_ns is ahead of bpf_ktime_get_ns
    tai_offset_ns: int = 0
    # CONFIG_HZ, for bpf_jiffies64
    hz: int = 250
    process: Process | None = None
    # answers of bpf_get_socket_cookie, bpf_get_socket_uid, bpf_get_netns_cookie
    socket_cookie: int | None = None
    socket_uid: int | None = None
    netns_cookie: int | None = None
    # bpf_get_current_cgroup_id, bpf_skb_cgroup_id
    cgroup_id: int | None = None
    # bpf_get_attach_cookie
    attach_cookie: int = 0
    # interfaces: ifindex -> MTU, for bpf_check_mtu and bpf_clone_redirect
    mtus: dict[int, int] | None = None
    # what every bpf_fib_lookup() ends in: 4 is "not forwarded" (BPF_FIB_LKUP_RET_NOT_FWDED)
    fib_result: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Something that leaves the program: a redirect, a cloned packet, a timer, an event."""

    # "redirect", "clone_redirect", "redirect_map", "perf_event", "timer_start", ...
    kind: str
    # what the helper was told, by the names of its parameters
    details: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""


@dataclass(slots=True)
class Recorder:
    """What helpers keep for a machine: records, oldest first and bounded; timers; the task."""

    records: list[Record] = field(default_factory=list)
    # address of a timer that was set up -> its callback, 0 without one; those that were started
    timers: dict[int, int] = field(default_factory=dict)
    armed: set[int] = field(default_factory=set)
    # region key of the context of a tracing program that runs -> arguments of the function that
    # it watches, whether its result is there
    watched: dict[int, tuple[int, bool]] = field(default_factory=dict)
    # the current task, once a program asked for it
    task: Region | None = None
    _size_bytes: int = 0

    def add(self, kind: str, data: bytes = b"", **details: int | str) -> None:
        """Keep one record. Raises Unsupported when 16 MB are full."""
        self._size_bytes += len(data) + _RECORD_BYTES
        if self._size_bytes > _MAX_RECORDED_BYTES:
            raise Unsupported(f"more than {_MAX_RECORDED_BYTES >> 20} MB of recorded calls")
        self.records.append(Record(kind, dict(details), data))

    def forget(self) -> None:
        """Drop all records: nobody reads those of a capture."""
        self.records.clear()
        self._size_bytes = 0
