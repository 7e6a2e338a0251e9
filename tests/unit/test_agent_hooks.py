# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What became of a frame, decided from taps, run count and tracepoints; all three are fakes."""

import errno
import types
from contextlib import ExitStack, nullcontext

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from harness import hooks as table
from harness.errors import UsageError, WorldError
from harness.hooks import Action
from harness.target.agent import hooks, links
from harness.target.agent.syscall import KernelError

FRAME = bytes(60)
OUT = b"out" * 20


class FakeTap:
    def __init__(self, _device="", protocol=None):
        self.frames = []
        self.protocol = protocol

    def listen(self, protocol):
        self.protocol = protocol

    def drain(self):
        self.frames.clear()

    def close(self):
        pass

    def receive(self):
        return self.frames.pop(0) if self.frames else None


class FakeMachine:
    """A hook on which each sent frame runs the program and ends up in one of the taps."""

    def __init__(self, monkeypatch, ends_at=None, events=(), *, runs=True, send_errno=0):
        self.count = 0
        self.waits = []
        self.machine = hooks.Hooks.__new__(hooks.Hooks)
        self.machine._far, self.machine._back = FakeTap(), FakeTap()
        self.machine._behind = {}
        self.machine._stack = ExitStack()
        self.machine.wire = types.SimpleNamespace(b=types.SimpleNamespace(namespace=5, device="vb"))
        self.machine._sender = types.SimpleNamespace(send=self.send)
        self.machine._trace = types.SimpleNamespace(events=lambda _: set(events))
        self.ends_at, self.runs, self.send_errno = ends_at, runs, send_errno
        monkeypatch.setattr(hooks.syscall, "prog_info", self.info)
        monkeypatch.setattr(hooks.taps, "wait", self.wait)
        monkeypatch.setattr(hooks.taps, "Tap", FakeTap)
        monkeypatch.setattr(hooks.namespace, "inside", nullcontext)
        monkeypatch.setattr(hooks, "_RUN_LIMIT_S", 0.01)

    def info(self, _):
        return types.SimpleNamespace(run_count=self.count)

    def send(self, frame):
        assert frame == FRAME
        if self.runs:
            self.count += 1
        if self.ends_at:
            self.tap(self.ends_at).frames.append(OUT)
        if self.send_errno:
            raise OSError(self.send_errno, "sending failed")

    def tap(self, where):
        return (
            self.machine._behind[where]
            if where in self.machine._behind
            else getattr(self.machine, where)
        )

    def wait(self, taps, timeout_s):
        self.waits.append(timeout_s)
        return [tap for tap in taps if tap.frames]

    def shots(self, hook, repeat=1):
        program = types.SimpleNamespace(fd=3, id=17, name="prog")
        return self.machine._send(hook, program, FRAME, repeat)


@pytest.mark.parametrize(
    ("hook", "ends_at", "events", "action"),
    [
        ("xdp-generic", "_far", (), Action.PASS),
        ("xdp-native", "_back", (), Action.TX),
        ("xdp-native", "_back", ("xdp_redirect",), Action.REDIRECT),
        ("xdp-generic", None, (), Action.DROP),
        ("xdp-generic", None, ("xdp_exception",), Action.ABORTED),
        # FRAME is of protocol 4 (802.2); a program may make it IPv6
        ("tc-ingress", 0x0004, (), Action.PASS),
        ("tc-ingress", 0x86DD, (), Action.PASS),
        # a tap before the program has no say
        ("tc-ingress", "_far", (), Action.DROP),
        # tc cannot transmit back: whatever returns was redirected
        ("tc-ingress", "_back", (), Action.REDIRECT),
        ("tcx-egress", None, (), Action.DROP),
        # the tracepoint is XDP's alone
        ("tc-egress", None, ("xdp_exception",), Action.DROP),
    ],
)
def test_fate_of_a_frame(monkeypatch, hook, ends_at, events, action):
    (shot,) = FakeMachine(monkeypatch, ends_at, events).shots(hook)
    lost = action in (Action.DROP, Action.ABORTED)
    assert shot == hooks.Shot(action, None if lost else OUT)


def test_silence_alone_is_not_a_drop(monkeypatch):
    with pytest.raises(WorldError, match="never ran 'prog'") as caught:
        FakeMachine(monkeypatch, runs=False).shots("xdp-generic")
    assert "run_cnt stayed 0" in caught.value.evidence


def test_a_frame_that_bypassed_the_program_is_not_a_pass(monkeypatch):
    with pytest.raises(WorldError, match="never ran") as caught:
        FakeMachine(monkeypatch, 0x0004, runs=False).shots("tc-ingress")
    assert OUT.hex() in caught.value.evidence


def test_a_drop_waits_for_the_rest_of_the_softirq_a_pass_does_not(monkeypatch):
    dropped = FakeMachine(monkeypatch)
    dropped.shots("xdp-native")
    assert dropped.waits[-1] == hooks._GRACE_S
    passed = FakeMachine(monkeypatch, "_far")
    passed.shots("xdp-native")
    assert passed.waits == [0]


def test_every_frame_of_a_repeat_is_judged(monkeypatch):
    machine = FakeMachine(monkeypatch, "_far")
    assert [shot.action for shot in machine.shots("tc-egress", 3)] == [Action.PASS] * 3
    assert machine.count == 3


def test_egress_drop_shows_as_enobufs(monkeypatch):
    (shot,) = FakeMachine(monkeypatch, send_errno=errno.ENOBUFS).shots("tc-egress")
    assert shot.action is Action.DROP


def test_a_frame_too_long_is_the_callers_mistake(monkeypatch):
    with pytest.raises(UsageError, match="60 bytes cannot be sent"):
        FakeMachine(monkeypatch, send_errno=errno.EMSGSIZE).shots("xdp-generic")


def test_a_device_that_is_down_is_not(monkeypatch):
    with pytest.raises(WorldError, match="60 bytes cannot be sent: Network is down"):
        FakeMachine(monkeypatch, send_errno=errno.ENETDOWN).shots("xdp-generic")


def test_pyroute2_refusals_are_the_kernels():
    words = "veth pair: Unknown device type"
    with pytest.raises(KernelError, match=words) as caught, links.asking("veth pair"):
        raise NetlinkError(errno.EOPNOTSUPP, "Unknown device type")
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("hook", "protocol"),
    [("tc-ingress", 0), ("tcx-ingress", 0), ("tc-egress", 3), ("xdp-native", 3)],
)
def test_ingress_is_watched_behind_the_hook(monkeypatch, hook, protocol):
    machine = FakeMachine(monkeypatch)
    machine.shots(hook)
    assert machine.machine._far.protocol == protocol
    assert all(tap.protocol == key for key, tap in machine.machine._behind.items())
    assert bool(machine.machine._behind) is hook.endswith("ingress")


def test_every_live_hook_has_its_place():
    assert set(hooks.PLACES) == {name for name, hook in table.HOOKS.items() if hook.live}
