# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the host makes of an agent's answers, without an agent."""

import pytest

from harness import wire
from harness.build import PROGS, build
from harness.errors import UsageError, WorldError
from harness.model import Case, Expectation, Input, Observation, Verdict
from harness.target.base import Facts
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


class Kernel:
    """An agent on a kernel without tcx; `seen` comes of every load."""

    def __init__(self, seen, *, throws):
        self.seen, self.throws = seen, throws
        self.cases = []

    def request(self, op, timeout_s, **fields):
        if op == "probe":
            has = {"throw": "" if self.throws else "no", "tcx": "BPF_PROG_QUERY: no"}
            return {"features": {name: has[name] for name in fields["features"]}}
        self.cases.append(fields["case"])
        return wire.to_json(self.seen)


REFUSED = Observation(Verdict.REJECTED, message="kfunc 'bpf_throw' is referenced")
LOADED = Observation(Verdict.RAN)


@pytest.mark.parametrize(
    ("throws", "seen", "message", "hooks"),
    [
        # the verifier's words tell more of the kernel than a hook that is not there
        (False, REFUSED, REFUSED.message, ["load"]),
        # a throw that is provably dead
        (False, LOADED, "tcx: BPF_PROG_QUERY: no", ["load"]),
        (True, REFUSED, "tcx: BPF_PROG_QUERY: no", []),
    ],
)
def test_a_kernel_without_throw_is_asked_for_the_verifiers_words(throws, seen, message, hooks):
    agent = Kernel(seen, throws=throws)
    client = AgentClient(agent, lambda files: None, "/run/x", 1.0)
    (path,) = build([PROGS / "throw" / "main.bpf.c"])
    case = Case(
        "t", str(path), "always", "tc", "tcx-ingress", Input(packet=bytes(64)),
        expectation=Expectation(retval=64), needs=("throw", "tcx"),
    )  # fmt: skip
    found = client.run(case, Facts("6.1.0", "tcg", "1", "bpftool", expects_throw=throws))
    assert (found.verdict, found.message) == (Verdict.UNSUPPORTED, message)
    assert [each["hook"] for each in agent.cases] == hooks
    # what should come of a case is nobody's business over there
    assert not [each for each in agent.cases if {"expectation", "per_series"} & each.keys()]
