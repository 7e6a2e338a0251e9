# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the host makes of an agent's answers, without an agent."""

import pytest

from harness.errors import UsageError, WorldError
from harness.target.client import AgentClient


class FakeChannel:
    """Answers hello with one bpftool."""

    def __init__(self, bpftool):
        self._bpftool = bpftool

    def request(self, op, timeout_s, **fields):
        assert op == "hello"
        return {"bpftool": self._bpftool, "kernel": "6.12.107"}


def _client(bpftool):
    return AgentClient(FakeChannel(bpftool), lambda files: None, "/run/x", 1.0)


@pytest.mark.parametrize("version", ["1.3", "1.5", "2.0"])
def test_a_new_enough_bpftool_is_taken(version):
    hello = _client(f"bpftool v7.5.0 using libbpf v{version}").hello()
    assert hello["kernel"] == "6.12.107"


@pytest.mark.parametrize("loader", ["bpftool v7.1.0 using libbpf v1.1", "bpftool v5.10.9", ""])
def test_an_old_bpftool_is_refused_before_it_refuses_callbacks(loader):
    with pytest.raises(UsageError, match="too old") as caught:
        _client(loader).hello()
    assert loader in caught.value.message
    assert "newer bpftool" in caught.value.fix


class Finishing:
    """Answers finish with leaks and a window of the kernel log."""

    def __init__(self, log):
        self._log = log

    def request(self, op, timeout_s, **fields):
        assert op == "finish"
        return {"leaks": ["prog 17 'main'"], "kernel_log": self._log}


def _finish(log):
    return AgentClient(Finishing(log), lambda files: None, "/run/x", 1.0).finish()


def test_a_splat_on_unloading_is_told_with_the_leaks():
    assert _finish("[    1.0] harmless\n") == ("prog 17 'main'",)
    log = "[    1.0] WARNING: CPU: 0 PID: 9 at kernel/bpf/core.c:1 f+0x1/0x2\n"
    leak, splat = _finish(log)
    assert leak == "prog 17 'main'"
    assert splat.startswith("kernel log: WARNING: CPU: 0")


def test_a_log_that_was_not_read_on_unloading_is_not_clean():
    with pytest.raises(WorldError, match="nobody can say"):
        _finish(None)
