# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What becomes of a case when its guest crashes, hangs, or cannot be had."""

import dataclasses
import functools
from pathlib import Path

import pytest
from fake_guest import (
    CASE,
    KERNEL,
    MACHINE,
    FakeClient,
    agent_dies,
    hangs,
    panics,
    refuses,
    runs,
    target_of,
    vanishes,
)

from harness.config import Settings
from harness.errors import MachineLostError
from harness.kernels import Kernel
from harness.model import Verdict
from harness.symbols import parse
from harness.target import virtual


@pytest.fixture
def target(monkeypatch):
    """Build a target whose guests do as told."""
    return functools.partial(target_of, monkeypatch)


def test_a_panic_costs_one_case_and_one_guest(target):
    machine = target(runs, panics, runs)
    assert machine.run(CASE).verdict is Verdict.RAN
    crashed = machine.run(CASE)
    assert crashed.verdict is Verdict.CRASHED
    assert crashed.message == "Oops: general protection fault"
    assert "Kernel panic" in crashed.kernel_log
    assert "Linux version" not in crashed.kernel_log
    assert machine.run(CASE).verdict is Verdict.RAN
    assert len(machine.guests) == 2
    assert machine.guests[0].stopped


def test_the_last_words_are_decoded_where_symbols_are_known(target, monkeypatch):
    rows = [("_text", 0), *((f"f{n}", n << 8) for n in range(2000)), ("_etext", 2000 << 8)]
    known = parse("".join(f"{0xFFFFFFFF81000000 + at:x} T {name}\n" for name, at in rows))
    monkeypatch.setattr(virtual.symbols, "at_hand", lambda _: known)

    def panics(guest):
        guest.console += "Oops: x\nRIP: 0010:0xffffffff81000310\nKernel Offset: disabled\n"
        vanishes(guest)

    crashed = target(panics).run(CASE)
    assert crashed.verdict is Verdict.CRASHED
    assert "0xffffffff81000310    <- ffffffff81000310 is f3+0x10/0x100" in crashed.kernel_log


def test_a_panic_between_two_cases_is_a_crash_of_the_second(target):
    machine = target(runs, vanishes, runs)
    machine.run(CASE)
    machine.guests[0].console += "[ 9.1] Kernel panic - not syncing: x\n"
    assert machine.run(CASE).verdict is Verdict.CRASHED
    assert machine.run(CASE).verdict is Verdict.RAN


def test_a_hang_is_its_own_verdict_and_the_guest_is_thrown_away(target):
    machine = target(hangs, runs)
    assert machine.run(CASE).verdict is Verdict.HUNG
    assert machine.guests[0].stopped
    assert machine.run(CASE).verdict is Verdict.RAN


def test_a_hang_that_was_a_panic_is_a_crash(target):
    def panics_silently(guest):
        guest.console += "[ 9.0] BUG: unable to handle page fault\n"
        hangs(guest)

    assert target(panics_silently).run(CASE).verdict is Verdict.CRASHED


def test_an_agent_that_was_killed_is_no_crash_of_the_kernel(target):
    machine = target(agent_dies, runs)
    lost = machine.run(CASE)
    assert lost.verdict is Verdict.LOST
    assert "the guest itself lives" in lost.message
    assert lost.log == "Killed"
    assert machine.run(CASE).verdict is Verdict.RAN


def test_a_guest_that_vanishes_is_lost_not_crashed(target):
    seen = target(vanishes).run(CASE)
    assert seen.verdict is Verdict.LOST
    assert seen.message.endswith(": QEMU has ended, without a word from the kernel")


def test_a_guest_that_cannot_be_had_is_not_asked_for_again(target):
    machine = target(panics, boots=1)
    machine.run(CASE)
    for _ in range(3):
        with pytest.raises(MachineLostError, match="did not boot"):
            machine.run(CASE)
    assert len(machine.guests) == 1


def test_a_kernel_that_should_throw_and_cannot_names_the_option(target, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text("CONFIG_BPF_JIT=y\nCONFIG_NET=y\n# CONFIG_UNWINDER_ORC is not set\n")
    machine = target(refuses)
    monkeypatch.setattr(FakeClient, "features", {"throw": "JIT does not support calling kfunc"})
    machine._kernel = Kernel(
        "6.12", "6.12.107", Path("bzImage"), None, config, expects_throw=True, origin=""
    )
    seen = machine.run(CASE)
    assert seen.verdict is Verdict.REJECTED
    assert seen.message.startswith("refused by the verifier [this kernel should have bpf_throw")
    assert "CONFIG_UNWINDER_ORC" in seen.message
    assert "CONFIG_BPF_JIT" not in seen.message


@pytest.mark.parametrize("act", [hangs, vanishes])
def test_a_guest_that_dies_while_it_is_asked_why_costs_one_case(target, monkeypatch, act):
    machine = target(refuses, runs)
    monkeypatch.setattr(FakeClient, "missing", lambda self, _: act(self._guest))
    monkeypatch.setattr("harness.target.postmortem.interrupt", lambda *_: "")
    assert machine.run(CASE).verdict in (Verdict.HUNG, Verdict.LOST)
    assert machine.run(CASE).verdict is Verdict.RAN
    assert len(machine.guests) == 2


def test_facts_that_are_known_need_no_guest(target):
    machine = target(runs, boots=1)
    machine.run(CASE)
    machine._drop()
    assert machine.facts.release == "6.12.107"
    assert len(machine.guests) == 1


def test_an_ordinary_rejection_is_left_alone(target):
    assert target(refuses).run(CASE).message == "refused by the verifier"


def test_provenance_says_what_ran_where(target):
    provenance = target(runs).run(CASE).provenance
    assert (provenance.source, provenance.kernel) == ("vm-6.12", "6.12.107")
    assert (provenance.accelerator, provenance.jit) == ("tcg", "1")


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (KERNEL, "vm-6.12"),
        (dataclasses.replace(KERNEL, name="6.12.107", origin="tree:/src/a"), "vm-6.12.107~a"),
        (dataclasses.replace(KERNEL, name="6.12.107", origin="/k/b/bzImage"), "vm-6.12.107~b"),
    ],
)
def test_trees_of_one_release_are_told_apart(kernel, name):
    assert virtual.VirtualTarget(kernel, MACHINE, Settings()).name == name


def test_after_a_death_the_next_guest_is_begun_at_once(target, monkeypatch):
    machine = target(panics, runs)
    begun = []
    monkeypatch.setattr(machine, "begin", lambda: begun.append(len(machine.guests)))
    machine.run(CASE)
    assert begun == [1]
    machine.run(CASE)
    assert begun == [1]


def test_a_next_guest_that_cannot_be_had_does_not_hide_the_death(target, monkeypatch):
    machine = target(panics)

    def begin():
        raise MachineLostError("no space")

    monkeypatch.setattr(machine, "begin", begin)
    assert machine.run(CASE).verdict is Verdict.CRASHED


def test_an_interrupted_target_is_not_renewed():
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    machine.abort()
    assert not machine.renew()
