# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is said of a guest that died or hangs, from its console."""

from pathlib import Path

import pytest

from harness.errors import MachineLostError, WorldError
from harness.model import Verdict
from harness.target import channel, login, postmortem, qmp, virtme
from harness.target.machine import Machine

DATA = Path(__file__).parent.parent / "data" / "kernel-log"
MACHINE = Machine("6.12", "6.12.107", Path("bzImage"), None, Path("root"), "0")
SILENT = channel.RequestTimeoutError("no answer to 'run' in 30 s", evidence="stderr")
GONE = MachineLostError("the agent went away during 'run'")
QUICK = postmortem.Patience(0.0, 0.01)
HUNG_IN = "bpf_prog_outer < bpf_prog_forever < bpf_test_run < bpf_prog_test_run_skb < __sys_bpf"


class FakeGuest:
    """A guest whose console grows by `after` when it is interrupted."""

    def __init__(self, console, *, lives=True, after=""):
        self.console, self.lives, self.after = console, lives, after
        self.run_dir = Path("run")
        self.machine, self.boot_s = MACHINE, 0.0

    def console_text(self):
        return self.console

    def alive(self):
        return self.lives


class FakeMonitor:
    """QEMU that injects an interrupt into `guest`."""

    guest = None

    def __init__(self, _run_dir, _deadline):
        if self.guest is None:
            raise WorldError("QEMU's control socket: no such file")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def command(self, name):
        assert name == "inject-nmi"
        self.guest.console += self.guest.after
        self.guest.lives = not self.guest.after


@pytest.fixture
def qemu(monkeypatch):
    monkeypatch.setattr(qmp, "Monitor", FakeMonitor)
    monkeypatch.setattr(FakeMonitor, "guest", None)
    return FakeMonitor


def _recorded(name="6.12-soft-lockup-nmi"):
    """The console before the interrupt, and what came after."""
    text = (DATA / f"{name}.log").read_text()
    at = text.index("Uhhuh") - len("[   66.069493] ")
    return text[:at], text[at:]


def test_a_hung_guest_says_where_it_is(qemu):
    before, after = _recorded()
    qemu.guest = FakeGuest("boot\n" + before, after=after)
    seen = postmortem.examine(qemu.guest, 5, Verdict.HUNG, SILENT, QUICK)
    assert seen.verdict is Verdict.HUNG
    assert seen.message == f"no answer to 'run' in 30 s; interrupted in {HUNG_IN}"
    assert "NMI: Not continuing" in seen.kernel_log
    assert "boot" not in seen.kernel_log
    assert seen.log == "stderr"
    # the interrupt is ours, and no complaint of the kernel's
    (splat,) = seen.splats
    assert splat.startswith("watchdog: BUG: soft lockup - CPU#0 stuck for 26s!")


def test_what_a_silent_console_held_back_belongs_to_the_case(qemu):
    """7.3 prints from a thread, which a hung processor does not run; the panic flushes it all."""
    text = "".join(_recorded("7.3-soft-lockup-nmi"))
    qemu.guest = FakeGuest("", after=text)
    seen = postmortem.examine(qemu.guest, 0, Verdict.HUNG, SILENT, QUICK)
    assert seen.verdict is Verdict.HUNG
    # it said so twice
    (splat,) = seen.splats
    assert splat.startswith("watchdog: BUG: soft lockup - CPU#0 stuck for 22s!")
    assert "NMI: Not continuing" in seen.kernel_log


@pytest.mark.parametrize("deaf", [True, False])
def test_a_guest_that_takes_no_interrupt_is_hung_all_the_same(qemu, deaf):
    guest = FakeGuest("quiet\n")
    qemu.guest = None if deaf else guest
    seen = postmortem.examine(guest, 0, Verdict.HUNG, SILENT, QUICK)
    assert seen.verdict is Verdict.HUNG
    assert seen.message.endswith("; it answers no interrupt either")
    assert seen.splats == ()


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("Oops: general protection fault, 0000 [#1]", Verdict.CRASHED),
        ("BUG: unable to handle page fault for address: 0", Verdict.CRASHED),
        ("kernel BUG at net/core/dev.c:1!", Verdict.CRASHED),
        ("Kernel panic - not syncing: softlockup: hung tasks", Verdict.CRASHED),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [x:1]", Verdict.HUNG),
        ("BUG: workqueue lockup - pool cpus=0 flags=0x0 nice=0 stuck for 35s!", Verdict.HUNG),
        ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", Verdict.HUNG),
        ("BUG: scheduling while atomic: x/1/0x00000002", Verdict.HUNG),
    ],
)  # fmt: skip
def test_a_complaint_is_no_crash(qemu, line, verdict):
    guest = FakeGuest(f"[    9.1] {line}\n")
    seen = postmortem.examine(guest, 0, Verdict.HUNG, SILENT, QUICK)
    assert seen.verdict is verdict
    assert seen.splats[0].startswith(line)


def test_a_guest_that_ends_itself_says_why():
    guest = FakeGuest("bpfthrow-init: sshd was killed\n", lives=False)
    seen = postmortem.examine(guest, 0, Verdict.LOST, GONE, QUICK)
    assert seen.verdict is Verdict.LOST
    assert seen.message.endswith("QEMU has ended, sshd was killed")


def test_a_crash_brings_its_splat_along():
    text = (DATA / "7.3-protection-fault.log").read_text()
    seen = postmortem.examine(FakeGuest(text, lives=False), 0, Verdict.LOST, GONE, QUICK)
    assert (seen.verdict, len(seen.splats)) == (Verdict.CRASHED, 1)
    assert "bpf_jit_subprogs" in seen.splats[0]


def test_the_interrupted_functions_are_those_below_the_handler():
    assert postmortem.interrupted_in(_recorded()[1]) == tuple(HUNG_IN.split(" < "))
    assert postmortem.interrupted_in("Kernel panic - not syncing: x\n f+0x1/0x2\n") == ()


def test_a_guest_that_hangs_at_boot_says_where(qemu, tmp_path, monkeypatch):
    _, after = _recorded()
    guest = qemu.guest = FakeGuest("[ 0.0] Linux version\n", after=after)
    guest.run_dir = tmp_path
    error = login.boot_failure(guest, MachineLostError("no ssh after 120 s"))
    assert error.message == f"6.12.107 did not boot: no ssh after 120 s; interrupted in {HUNG_IN}"
    assert "NMI: Not continuing" in error.evidence


def test_our_own_interrupt_ends_every_guest(tmp_path):
    argv = virtme.virtme_argv(MACHINE, tmp_path)
    assert argv[argv.index("unknown_nmi_panic") - 1] == "--kopt"
