# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A fentry or fexit program that is the case's own program: attached around its test run.

BPF_PROG_TEST_RUN of a tracing program calls the kernel's bpf_fentry_test1 to 8 and the
program runs because it is attached to one of them (net/bpf/test_run.c).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from harness.target.agent import syscall
from harness.target.agent.loading import Program
from harness.target.agent.testrun import TRACING


@contextmanager
def attached(program: Program) -> Iterator[None]:
    """Attach `program` when it is a tracing program; nothing to do for all others."""
    if program.type != TRACING:
        yield
        return
    link = syscall.raw_tracepoint_open(program.fd)
    try:
        yield
    finally:
        os.close(link)
