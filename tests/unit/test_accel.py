# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The probe, against programs that behave as QEMU was seen to behave."""

import os
import time
from pathlib import Path

import pytest

from harness import accel, tools
from harness.errors import MachineLostError

# Writes to the file of -serial file:X what the guest's init would print.
WORKS = """
for word; do
    case $word in
    file:*) echo "bpfthrow-probe: the guest is up" > "${word#file:}" ;;
    esac
done
exec sleep 60
"""
ABORTS = (
    "echo 'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0' >&2\n"
    "echo 'qemu-system-x86_64: kvm.c:2809: Assertion failed.' >&2; exit 134"
)
SPINS = "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60"
SILENT = "exec sleep 60"
EMULATES_ONLY = f'case "$*" in *accel=kvm*) {ABORTS};; esac\n{WORKS}'


@pytest.fixture
def qemu(tmp_path, monkeypatch, cache, make_image):
    """Installs a script as QEMU, with a /dev/kvm that opens; returns how to change it."""
    program = tmp_path / "qemu-system-x86_64"
    image = make_image("6.12.1")
    kvm = tmp_path / "kvm"
    kvm.touch()
    monkeypatch.setattr(accel, "_KVM", kvm)
    monkeypatch.setattr(accel, "_some_image", lambda: image)
    monkeypatch.setitem(accel._DEADLINES_S, "kvm", 1.0)
    monkeypatch.setitem(accel._DEADLINES_S, "tcg", 1.0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def behave(script):
        program.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\n{script}\n")
        program.chmod(0o755)

    behave.kvm = kvm
    behave.pids = lambda: [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    yield behave
    left = [pid for pid in behave.pids() if Path(f"/proc/{pid}").exists()]
    assert not left, "a QEMU was left behind"


def test_kvm_that_runs_a_guest_is_taken(qemu):
    qemu(WORKS)
    found = accel.probe()
    assert found.name == "kvm"
    assert 0 < found.boot_s < 1


@pytest.mark.parametrize(
    ("kvm", "reason"),
    [
        (ABORTS, "KVM probe failed: failed to set MSR 0x10a to 0x0"),
        (SPINS, "KVM probe failed: KVM internal error. Suberror: 1"),
        (SILENT, "KVM probe failed: no sign of life from the guest in 1 s"),
        ("exit 3", "KVM probe failed: QEMU ended with 3, no guest"),
    ],
)
def test_kvm_that_does_not_work_ends_in_emulation_with_the_reason(qemu, kvm, reason):
    qemu(f'case "$*" in *accel=kvm*) {kvm};; esac\n{WORKS}')
    found = accel.probe()
    assert (found.name, found.reason) == ("tcg", reason)


def test_kvm_that_is_not_there_is_not_tried(qemu):
    qemu(WORKS)
    qemu.kvm.unlink()
    assert accel.probe().name == "tcg"
    assert accel.probe().reason == f"{qemu.kvm}: No such file or directory"
    assert len(qemu.pids()) == 1


def test_verdict_is_remembered_until_asked_again(qemu):
    qemu(EMULATES_ONLY)
    first = accel.probe()
    assert len(qemu.pids()) == 2
    assert accel.probe() == first
    assert len(qemu.pids()) == 2
    accel.probe(refresh=True)
    assert len(qemu.pids()) == 4


def test_another_qemu_is_probed_anew(qemu):
    qemu(EMULATES_ONLY)
    assert accel.probe().name == "tcg"
    qemu(WORKS)
    assert accel.probe().name == "kvm"


def test_damaged_memory_is_probed_anew(qemu, cache):
    qemu(WORKS)
    accel.probe()
    (memory,) = (cache / "accel").iterdir()
    memory.write_text("{")
    assert accel.probe().name == "kvm"


def test_machine_on_which_no_guest_runs(qemu, cache):
    qemu(ABORTS)
    with pytest.raises(MachineLostError, match="no guest runs on this machine") as caught:
        accel.probe()
    assert "emulation failed too: failed to set MSR" in caught.value.message
    assert not (cache / "accel").exists()


def test_interrupt_leaves_no_qemu(qemu, monkeypatch, tmp_path, make_image):
    qemu(SILENT)

    def interrupt(_seconds):
        begin_s = time.monotonic()
        while not (tmp_path / "pids").exists() and time.monotonic() - begin_s < 5:
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(accel.time, "sleep", interrupt)
    busybox = Path(tools.need("busybox"))
    with pytest.raises(KeyboardInterrupt):
        accel.boot(tmp_path / "qemu-system-x86_64", "tcg", make_image("6"), busybox, 5.0)


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("", ""),
        ("qemu-system-x86_64: warning: odd\nqemu-system-x86_64: error: no\n", "no"),
        ("qemu-system-x86_64: -accel kvm: not there\n", "-accel kvm: not there"),
    ],
)
def test_the_telling_line_of_qemu(stderr, expected):
    assert accel.words_of(stderr) == expected
