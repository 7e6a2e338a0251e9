# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What makes a feature absent, and what is trouble of the machine. No bpf(2)."""

import errno

import pytest

from harness.errors import WorldError
from harness.target.agent import probe
from harness.target.agent import session as sessions
from harness.target.agent.syscall import KernelError


def _probe(monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setitem(probe.FEATURES, "xdp", fail)
    return probe._probe("xdp", None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            KernelError(errno.EOPNOTSUPP, "veth pair: Unknown device type"),
            "veth pair: Unknown device type (ENOTSUP)",
        ),
        (KernelError(errno.ENOENT, "clsact on vb: unknown"), "clsact on vb: unknown (ENOENT)"),
        (KernelError(524, "BPF_PROG_TEST_RUN: Unknown error 524"), "Unknown error 524 (524)"),
        (
            KernelError(errno.EACCES, "BPF_PROG_LOAD", "calling kfunc is not allowed\n"),
            "calling kfunc is not allowed (EACCES)",
        ),
    ],
)
def test_a_kernel_that_lacks_something_is_a_reason(monkeypatch, error, reason):
    assert _probe(monkeypatch, error).endswith(reason)


@pytest.mark.parametrize(
    "error",
    [
        WorldError("tracefs is not mounted"),
        WorldError("the machine has no bpftool"),
        KernelError(errno.EPERM, "BPF_PROG_LOAD"),
        KernelError(errno.ENOMEM, "BPF_PROG_LOAD"),
        # a security module's, not the verifier's
        KernelError(errno.EACCES, "BPF_PROG_LOAD", ""),
        # a file of ours, not an answer to a request
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ],
)
def test_trouble_of_the_machine_is_not(monkeypatch, error):
    with pytest.raises(type(error)) as caught:
        _probe(monkeypatch, error)
    assert caught.value is error


def test_an_unknown_feature_is_answered():
    assert probe._probe("teleport", None) == "nobody knows how to probe 'teleport'"


def test_a_kernel_without_a_wire_is_asked_once(monkeypatch):
    from harness.target.agent import hooks  # noqa: PLC0415

    tries = []

    def create():
        tries.append(1)
        raise KernelError(errno.EOPNOTSUPP, "veth pair: Unknown device type")

    monkeypatch.setattr(hooks, "create", create)
    monkeypatch.setattr(sessions.leaks, "census", dict)
    state = sessions.Session.__new__(sessions.Session)
    state._hooks = state._no_hooks = None
    for _ in range(3):
        with pytest.raises(KernelError, match="Unknown device type"):
            _ = state.hooks
    assert tries == [1]
