# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases that want a guest of their own, and what the guest before has left."""

import dataclasses
import functools

import pytest
from fake_guest import CASE, FakeClient, hangs, panics, runs, target_of, vanishes

from harness.config import Settings
from harness.errors import MachineLostError
from harness.model import Verdict


@pytest.fixture
def target(monkeypatch):
    """Build a target whose guests do as told."""
    return functools.partial(target_of, monkeypatch)


ALONE = dataclasses.replace(CASE, id="throw/alone", needs=("fresh",))


@pytest.fixture
def renewed(target, monkeypatch):
    """As `target`; a guest that is let go is followed by the next one."""

    def build(*acts, **settings):
        machine = target(*acts)
        machine._settings = Settings(**settings)
        monkeypatch.setattr(machine, "renew", machine._drop)
        return machine

    return build


def test_a_case_that_wants_a_fresh_guest_has_it_for_itself(renewed):
    machine = renewed(*[runs] * 5)
    guests = []
    for case in (CASE, CASE, ALONE, CASE, CASE):
        machine.run(case)
        guests.append(len(machine.guests))
    assert guests == [1, 1, 2, 3, 3]


def test_the_first_guest_is_fresh_enough(renewed):
    machine = renewed(runs)
    machine.run(ALONE)
    assert len(machine.guests) == 1


def test_every_case_may_have_a_guest_of_its_own(renewed):
    machine = renewed(*[runs] * 4, isolate="case")
    for _ in range(4):
        machine.run(CASE)
    assert len(machine.guests) == 4


def test_a_crash_leaves_a_fresh_guest_behind(renewed):
    machine = renewed(panics, runs, isolate="case")
    assert machine.run(CASE).verdict is Verdict.CRASHED
    machine.run(CASE)
    assert len(machine.guests) == 2


def test_what_a_separated_guest_held_is_not_forgotten(renewed, monkeypatch):
    machine = renewed(runs, runs)
    machine.run(CASE)
    monkeypatch.setattr(FakeClient, "finish", lambda _: ("map 3",), raising=False)
    assert machine.run(ALONE).leaks == ("by the cases before: map 3",)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (panics, "crashed when all was unloaded: Oops: general protection fault"),
        (hangs, "hung when all was unloaded: no answer"),
        (vanishes, "nobody knows what is left (the agent went away"),
    ],
)
def test_a_guest_that_dies_when_it_is_unloaded_costs_no_other_case(
    renewed, monkeypatch, act, words
):
    machine = renewed(runs, runs, runs)
    machine.run(CASE)
    monkeypatch.setattr(FakeClient, "finish", lambda self: act(self._guest))
    monkeypatch.setattr("harness.target.postmortem.interrupt", lambda *_: "")
    seen = machine.run(ALONE)
    assert seen.verdict is Verdict.RAN
    assert words in seen.leaks[0]
    monkeypatch.setattr(FakeClient, "finish", lambda _: ())
    assert machine.run(CASE).leaks == ()
    assert machine.guests[0].stopped
    assert len(machine.guests) == 3


def test_a_kernel_that_ends_over_the_last_unloading_is_no_lost_machine(target, monkeypatch):
    machine = target(runs)
    machine.run(CASE)
    monkeypatch.setattr(FakeClient, "finish", lambda self: panics(self._guest))
    (first, *splats) = machine.finish()
    assert first == "crashed when all was unloaded: Oops: general protection fault"
    assert splats
    assert machine.finish() == ()
    machine = target(runs)
    machine.run(CASE)
    monkeypatch.setattr(FakeClient, "finish", lambda self: vanishes(self._guest))
    with pytest.raises(MachineLostError):
        machine.finish()


def test_a_warm_guest_is_not_fresh(renewed):
    machine = renewed(runs)
    machine._ready()
    machine._guest.lock = object()
    machine._client.finish = tuple
    machine.run(ALONE)
    assert len(machine.guests) == 2
