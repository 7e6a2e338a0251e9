# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BPF_PROG_TEST_RUN for every program type that has one. One run, straight through bpf(2)."""

import errno
import os

from harness.errors import UsageError, WorldError
from harness.model import Input
from harness.target.agent import syscall
from harness.target.agent.loading import Program

# enum bpf_prog_type
SCHED_CLS, SCHED_ACT, XDP, CGROUP_SKB, SOCKET_FILTER = 3, 4, 6, 8, 1
LWT_IN, LWT_OUT, LWT_XMIT, FLOW_DISSECTOR, SK_LOOKUP = 10, 11, 12, 22, 30
RAW_TRACEPOINT, TRACING, SYSCALL, NETFILTER = 17, 26, 31, 32

_PACKET = {
    SCHED_CLS, SCHED_ACT, XDP, CGROUP_SKB, SOCKET_FILTER, LWT_IN, LWT_OUT, LWT_XMIT,
    FLOW_DISSECTOR, NETFILTER,
}  # fmt: skip
_CONTEXT = {RAW_TRACEPOINT, SYSCALL, SK_LOOKUP}
_MIN_PACKET_BYTES = 14  # ETH_HLEN, net/bpf/test_run.c
# head room for programs that grow the packet
_SPARE_BYTES = 512


def runnable(kind: int) -> bool:
    """Whether the kernel has a test run for this program type."""
    return kind in _PACKET or kind in _CONTEXT or kind == TRACING


def run(program: Program, given: Input) -> syscall.Run:
    """Run once. Raises UsageError for an input that the type cannot take."""
    try:
        if program.type in _PACKET:
            return _run_packet(program, given)
        if program.type in _CONTEXT:
            return _run_context(program, given)
        return syscall.run_once(program.fd, None, None, repeat=0)
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, str(error.errno))
        raise WorldError(
            f"BPF_PROG_TEST_RUN of {program.name!r} failed: {code} "
            f"({os.strerror(error.errno or 0)})",
            evidence=f"program type {program.type}, input {given}",
        ) from None


def _run_packet(program: Program, given: Input) -> syscall.Run:
    frame = given.packet
    if frame is None or len(frame) < _MIN_PACKET_BYTES:
        raise UsageError(
            f"program {program.name!r} takes a packet of at least {_MIN_PACKET_BYTES} bytes, "
            f"input {given.name!r} has {'none' if frame is None else len(frame)}",
            fix="give the input a packet",
        )
    room = len(frame) + _SPARE_BYTES
    return syscall.run_once(program.fd, frame, None, room=room)


def _run_context(program: Program, given: Input) -> syscall.Run:
    if given.packet is not None:
        raise UsageError(
            f"program {program.name!r} takes a context, input {given.name!r} is a packet",
            fix="use ctx=HEX in the input",
        )
    return syscall.run_once(program.fd, None, given.ctx, repeat=0)
