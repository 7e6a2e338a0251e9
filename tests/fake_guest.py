# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Guests that never boot: they run, crash, hang or vanish on cue."""

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from harness.config import Settings
from harness.errors import MachineLostError
from harness.kernels import Kernel
from harness.model import Case, Observation, Verdict
from harness.target import channel, virtual
from harness.target.base import Facts
from harness.target.machine import Machine

KERNEL = Kernel("6.12", "6.12.107", Path("bzImage"), None, None, expects_throw=True, origin="")
MACHINE = Machine("6.12", "6.12.107", Path("bzImage"), None, Path("root"), "0")
CASE = Case("throw/x", "x.bpf.o", "x", "tc", "test_run", needs=("throw",))


@dataclass
class FakeGuest:
    console: str = ""
    lives: bool = True
    stopped: bool = False
    keeper: object = field(default_factory=object)
    boot_s: float = 0.0
    prepared: bool = True
    state: object = None
    lock: object = None
    scale: float = 1.0
    run_dir: Path = Path("nowhere")
    released: bool = False

    def release(self):
        self.released = True

    def console_text(self):
        return self.console

    def alive(self):
        return self.lives and not self.stopped

    def stop(self):
        self.stopped = True


class FakeClient:
    """Does what the next entry of `acts` says."""

    features = MappingProxyType({})

    def __init__(self, acts, guest):
        self._acts, self._guest = acts, guest

    def run(self, case, facts):
        act = self._acts.pop(0)
        return act(self._guest)

    def missing(self, feature):
        return self.features.get(feature, "")

    def finish(self):
        return ()

    def close(self):
        pass


def runs(_guest):
    return Observation(Verdict.RAN, retvals=(1,))


def refuses(_guest):
    return Observation(Verdict.REJECTED, message="refused by the verifier")


def panics(guest):
    guest.console += "[ 9.0] Oops: general protection fault\n[ 9.1] Kernel panic - not syncing: x\n"
    guest.lives = False
    raise MachineLostError("the agent went away during 'run'")


def hangs(_guest):
    raise channel.RequestTimeoutError("no answer to 'run' in 30 s")


def agent_dies(_guest):
    raise MachineLostError("the agent went away during 'run'", evidence="Killed")


def vanishes(guest):
    guest.lives = False
    raise MachineLostError("the agent went away during 'run'")


def target_of(monkeypatch, *acts, boots=99):
    """A target whose guests do as told; `.guests` lists those that were booted."""
    made = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    made.guests = []
    left = list(acts)

    def boot():
        if len(made.guests) >= boots:
            raise MachineLostError("6.12.107 did not boot")
        guest = FakeGuest("[ 0.0] Linux version\n")
        made.guests.append(guest)
        made._guest, made._client = guest, FakeClient(left, guest)
        made._facts = Facts("6.12.107", "tcg", "1", "bpftool")
        made._heard = len(guest.console)

    monkeypatch.setattr(made, "_boot", boot)
    # where the next guest is begun ahead, after a death
    monkeypatch.setattr(made, "begin", lambda: None)
    monkeypatch.setattr(virtual, "_DEATH_S", 0.1)
    return made
