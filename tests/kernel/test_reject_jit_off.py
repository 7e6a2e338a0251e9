# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Nothing throws where the JIT is off: the cases that need it off, in a guest that is set so.

Cases cannot set a sysctl, and a guest of anybody else's runs must never be set so: this one is
switched and switched back within the test.
"""

from contextlib import contextmanager

import pytest

from harness import config, suite
from harness.build import PROGS
from harness.model import Verdict
from harness.normalize import messages
from harness.refusals import rule_of
from harness.target.base import open_target

SOURCE = PROGS / "reject" / "no_jit.bpf.c"
SYSCTL = "/proc/sys/net/core/bpf_jit_enable"


def shell(target, command):
    """Run a command in the guest; what it printed."""
    channel = target.transport.open_session(timeout=30)
    channel.settimeout(30)
    channel.exec_command(command)
    with channel.makefile() as out:
        text = out.read().decode()
    assert channel.recv_exit_status() == 0, command
    return text.strip()


@contextmanager
def jit_off(target):
    before = shell(target, f"/usr/bin/busybox cat {SYSCTL}")
    # fails where the kernel has CONFIG_BPF_JIT_ALWAYS_ON: Debian's have not
    shell(target, f"echo 0 > {SYSCTL}")
    try:
        yield
    finally:
        shell(target, f"echo {before} > {SYSCTL}")


@pytest.mark.kernel
def test_nothing_throws_where_the_jit_is_off(request):
    settings = config.resolve(request.config.option)
    if not settings.kernel:
        pytest.skip("it switches the JIT off in guests: --kernel")
    cases = suite.collect([SOURCE])
    asked = 0
    for kernel in settings.kernel:
        with open_target(f"vm:{kernel}", settings) as target, jit_off(target):
            if not target.facts.expects_throw:
                continue
            for case in cases:
                differences = check(case, target.run(case))
                assert not differences, f"{kernel}: {case.program}: {differences}"
                asked += 1
    if not asked:
        pytest.skip("none of the kernels has exceptions")


def check(case, seen):
    """What is wrong with a load, as one line; "" where nothing is."""
    wanted = case.expectation
    if wanted.verdict is not Verdict.REJECTED:
        return "" if seen.verdict is Verdict.RAN else f"{seen.verdict}: {seen.message}"
    found = rule_of(messages(seen.log))
    said = (seen.verdict, seen.errno, found and found.rule.name)
    return "" if said == (Verdict.REJECTED, wanted.errno, "no-jit") else f"{said}: {seen.message}"
