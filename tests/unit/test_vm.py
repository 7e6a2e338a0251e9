# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A guest's command line, directory and end, without booting one."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from harness.errors import MachineLostError, UsageError
from harness.target import channel, guests, login, virtme, vm
from harness.target.deadline import Deadline
from harness.target.machine import Machine

MACHINE = Machine(
    name="6.12",
    release="6.12.107+deb13-amd64",
    kernel=Path("/boot/vmlinuz"),
    modules=None,
    root=Path("/cache/root.erofs"),
    root_hash="0123",
)


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """A runtime directory of the test's own, short enough for sockets."""
    place = Path(os.path.realpath(tmp_path))
    monkeypatch.setattr(guests, "runtime_dir", lambda: place)
    return place


def _values(argv, flag):
    return [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == flag]


@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
def test_a_panic_always_ends_qemu_and_the_console_is_a_file(tmp_path, accelerator):
    machine = Machine(**{**_fields(MACHINE), "accelerator": accelerator})
    argv = virtme.virtme_argv(machine, tmp_path)
    assert {"panic=-1", "oops=panic"} <= set(_values(argv, "--kopt"))
    assert "-no-reboot" in argv
    assert _values(argv, "-serial") == [f"file:{tmp_path}/console.log"]
    assert ("--disable-kvm" in argv) == (accelerator == "tcg")


def test_nothing_listens_on_a_network(tmp_path):
    argv = virtme.virtme_argv(MACHINE, tmp_path)
    assert not [word for word in argv if "hostfwd" in word or word.startswith(("--net", "tcp:"))]
    assert all(word.startswith("socket,") for word in _values(argv, "-chardev"))


def test_two_guests_share_no_path(tmp_path):
    first = set(virtme.virtme_argv(MACHINE, tmp_path / "a"))
    second = set(virtme.virtme_argv(MACHINE, tmp_path / "b"))
    assert not [word for word in first & second if str(tmp_path) in word]


def test_keys_are_private_and_of_this_guest(runtime, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(runtime / "cache"))
    logins = []
    for name in ("a", "b"):
        run_dir = runtime / name
        run_dir.mkdir()
        virtme.write_keys_and_initramfs(run_dir, MACHINE)
        for secret in ("user_key", "host_key", "initramfs"):
            assert stat.S_IMODE((run_dir / secret).stat().st_mode) == 0o600
        logins.append(login.read_login(run_dir))
    assert logins[0].key.asbytes() != logins[1].key.asbytes()
    assert logins[0].host_key.asbytes() != logins[1].host_key.asbytes()


def test_keys_that_are_gone_are_a_lost_machine(tmp_path):
    with pytest.raises(MachineLostError, match="keys are gone"):
        login.read_login(tmp_path)
    for name in ("user_key", "host_key"):
        (tmp_path / name).write_text("no key\n")
    with pytest.raises(MachineLostError, match="or damaged"):
        login.read_login(tmp_path)


def test_a_runtime_directory_open_to_others_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
    place = Path("/tmp/bpfthrow-test-open")
    monkeypatch.setattr(guests, "_PRIVATE_NAME", place.name)
    place.mkdir(mode=0o755, exist_ok=True)
    place.chmod(0o755)
    try:
        with pytest.raises(UsageError, match="open to others"):
            guests.runtime_dir()
    finally:
        place.rmdir()


@pytest.mark.parametrize(
    ("console", "reason"),
    [
        ("[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs", "Unable to mount"),
        ("bpfthrow-init: cannot mount the root image: no erofs in this kernel", "no erofs"),
        ("[ 1.0] booting as usual", "no ssh after 3 s"),
        (
            "[ 1.0] BUG: unable to handle page fault for address: 8\n"
            "[ 1.1] Oops: 0002 [#1] PREEMPT SMP\n[ 1.2] Kernel panic - not syncing: Fatal",
            ": BUG: unable to handle page fault for address: 8",
        ),
        (
            "bpfthrow-init: no devtmpfs (CONFIG_DEVTMPFS)\n[ 1.2] Kernel panic - not syncing: init",
            "DEVTMPFS",
        ),
        ("bpfthrow-init: no /dev/vda: the kernel lacks virtio_blk or virtio_pci", "virtio_blk"),
        ("bpfthrow-init: no virtio-serial port: the kernel lacks virtio_console", "virtio_console"),
        ("[ 1.0] Kernel panic - not syncing: System is deadlocked on memory", "deadlocked"),
    ],
)
def test_a_failed_boot_says_why(runtime, console, reason):
    guest = vm.Guest(MACHINE, runtime, None)
    guest.console.write_text(f"[ 0.0] Linux version\n{console}\n")
    error = login.boot_failure(guest, MachineLostError("no ssh after 3 s"))
    assert reason in error.message
    assert MACHINE.release in error.message
    assert console in error.evidence


@pytest.mark.parametrize(
    ("modules", "console", "fix"),
    [
        (None, "", "whole"),
        (None, "[ 0.0] Linux version", "no modules were found"),
        (Path("/lib/modules/6.12"), "[ 0.0] Linux version", "read the console"),
    ],
)
def test_a_failed_boot_says_how_to_go_on(runtime, modules, console, fix):
    guest = vm.Guest(Machine(**{**_fields(MACHINE), "modules": modules}), runtime, None)
    guest.console.write_text(console)
    assert fix in login.boot_failure(guest, MachineLostError("QEMU ended")).fix


# of Linux 6.12 and 7.3 with a root image that was cut, or had been overwritten
DAMAGED = (
    "[ 2.6] erofs: (device vda): erofs_read_superblock: cannot find valid erofs superblock\n"
    "mount: mounting /dev/vda on /root failed: Invalid argument\n"
    "bpfthrow-init: cannot mount the root image: no erofs in this kernel, or a damaged image",
    "[ 2.6] erofs (device vda): cannot find valid erofs superblock",
    "[ 3.0] erofs: (device vda): erofs_read_inode: bogus i_mode (0) @ nid 2020096",
    "bpfthrow-init: sshd: /run/bpfthrow/init: line 14: sshd: Structure needs cleaning",
)
WHOLE = (
    "[ 2.6] erofs: (device vda): mounted with root inode @ nid 36.",
    "mount: mounting /dev/vda on /root failed: No such device\n"
    "bpfthrow-init: cannot mount the root image: no erofs in this kernel, or a damaged image",
    "bpfthrow-init: sshd was killed",
)


def _hear_nothing(guest, deadline):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        login.wait_for_banner(guest, ours, deadline)


@pytest.mark.parametrize("console", DAMAGED)
def test_a_damaged_guest_root_is_said_to_be_at_once(runtime, console):
    guest = vm.Guest(MACHINE, runtime, None)
    guest.console.write_text(f"[ 0.0] Linux version\n{console}\n[ 4.0] more\n")
    with pytest.raises(MachineLostError, match="root cannot be read") as caught:
        _hear_nothing(guest, Deadline(5))
    fix = login.boot_failure(guest, caught.value).fix
    assert (
        fix == f"the guest root is damaged: rm -r {MACHINE.root.parent}; the next run makes it anew"
    )


@pytest.mark.parametrize(("console", "boot_s"), [*((each, 0.0) for each in WHOLE), (DAMAGED[3], 2)])
def test_other_words_about_the_root_are_waited_over(runtime, console, boot_s):
    guest = vm.Guest(MACHINE, runtime, None, boot_s=boot_s)
    guest.console.write_text(f"{console}\n")
    with pytest.raises(MachineLostError, match="no ssh after 1 s"):
        _hear_nothing(guest, Deadline(0.6))
    assert boot_s or "damaged" not in login.boot_failure(guest, MachineLostError("no ssh")).fix


@pytest.mark.parametrize(
    ("accelerator", "words", "fix"),
    [
        ("kvm", "kvm_buf_set_msrs: Assertion `ret == 1' failed.", "--accelerator auto"),
        ("kvm", "", "--accelerator auto"),
        ("tcg", "qemu: could not load kernel '/k': Invalid argument", f"is {MACHINE.kernel} whole"),
        ("tcg", "cannot set up guest memory 'pc.ram': Cannot allocate memory", "doctor --refresh"),
    ],
)
def test_a_guest_that_said_nothing_is_not_always_the_kernels_fault(
    runtime, accelerator, words, fix
):
    (runtime / "virtme.err").write_text(words)
    guest = vm.Guest(Machine(**{**_fields(MACHINE), "accelerator": accelerator}), runtime, None)
    assert fix in login.boot_failure(guest, MachineLostError("QEMU ended")).fix


def test_a_guest_with_too_little_memory_is_told_so(runtime):
    guest = vm.Guest(Machine(**{**_fields(MACHINE), "memory_mib": 64}), runtime, None)
    error = login.boot_failure(guest, MachineLostError("QEMU ended"))
    assert error.fix == "give it more memory than 64 MiB: --memory 512"


def test_qemus_own_words_are_shown_when_nothing_booted(runtime):
    (runtime / "virtme.err").write_text("qemu-system-x86_64: could not load kernel\n")
    error = login.boot_failure(vm.Guest(MACHINE, runtime, None), MachineLostError("QEMU ended"))
    assert "could not load kernel" in error.message


def test_a_guest_that_ended_is_noticed_while_waiting(runtime):
    guest = vm.Guest(MACHINE, runtime, None)
    (runtime / "exited").touch()
    with pytest.raises(MachineLostError, match="QEMU ended"):
        login.require_life(guest, channel.Deadline(5))


def test_directories_of_killed_keepers_are_reaped(runtime):
    old, young, other = runtime / "old", runtime / "young", runtime / "file"
    old.mkdir()
    (old / "keeper.pid").write_text("999999999\n")
    os.utime(old, (0, 0))
    young.mkdir()
    other.touch()
    guests.reap()
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_detached_guests_are_found_by_their_note(runtime):
    (runtime / "a").mkdir()
    note = {"label": "a", "detached": True, "recipe": {}, "started": 1.0, "boot_s": 2.0}
    (runtime / "a" / "machine.json").write_text(json.dumps(note))
    (runtime / "b").mkdir()
    (runtime / "b" / "machine.json").write_text(json.dumps({**note, "detached": False}))
    (runtime / "c").mkdir()
    (runtime / "c" / "machine.json").write_text("{ broken")
    found = guests.detached()
    assert [entry.label for entry in found] == ["a"]
    assert not found[0].alive


@pytest.mark.parametrize(("boot_s", "scale"), [(0.5, 1.0), (5.0, 1.0), (15.0, 3.0), (500.0, 10.0)])
def test_deadlines_scale_with_the_boot(tmp_path, boot_s, scale):
    assert vm.Guest(MACHINE, tmp_path, None, boot_s=boot_s).scale == scale


def _fields(machine):
    return {name: getattr(machine, name) for name in Machine.__dataclass_fields__}


@pytest.mark.parametrize("base", ["/nonexistent/run", "relative", "", "/tmp/with space"])
def test_without_a_good_runtime_directory_there_is_one_in_tmp(monkeypatch, base):
    monkeypatch.setenv("XDG_RUNTIME_DIR", base)
    assert guests.runtime_dir() == Path(f"/tmp/bpfthrow-{os.getuid()}")


def test_directories_that_vanish_meanwhile_are_left_to_whoever_took_them(tmp_path, monkeypatch):
    place = types.SimpleNamespace(iterdir=lambda: iter([tmp_path / "gone"]))
    monkeypatch.setattr(guests, "runtime_dir", lambda: place)
    guests.reap()
    assert guests.detached() == []


def test_qemu_may_be_anywhere(tmp_path, monkeypatch):
    qemu = tmp_path / "my qemu's" / "qemu"
    qemu.parent.mkdir()
    qemu.write_text('#!/bin/sh\necho "started with $1"\n')
    qemu.chmod(0o755)
    monkeypatch.setattr(virtme.tools, "need", lambda _name: str(qemu))
    virtme.write_wrapper(tmp_path)
    done = subprocess.run([tmp_path / "qemu", "-x"], capture_output=True, text=True, check=True)
    assert done.stdout == "started with -x\n"


def test_the_socket_is_closed_when_nobody_can_log_in(runtime, monkeypatch):
    ours, theirs = socket.socketpair()
    theirs.sendall(b"SSH-2.0-x\r\n")
    monkeypatch.setattr(login, "open_port", lambda *_: ours)
    with theirs, pytest.raises(MachineLostError, match="keys are gone"):
        vm.connect(vm.Guest(MACHINE, runtime, None))
    assert ours.fileno() == -1


class Transport:
    """A connection that only has to be closed."""

    def close(self):
        pass


@pytest.fixture
def keep(runtime, monkeypatch):
    """Starts a guest whose QEMU only sleeps, below a real keeper; ready and connected."""
    monkeypatch.setattr(vm, "recipe", lambda _machine: {"release": "6.12.107"})
    monkeypatch.setattr(vm.Guest, "_hear_out", lambda _guest: None)
    started = []

    def start(*, stays):
        run_dir = runtime / f"guest-{len(started)}"
        run_dir.mkdir()
        words = ["import time; time.sleep(60)", f"file:{run_dir}/console.log"]
        guest = vm.Guest(MACHINE, run_dir, None, prepared=True, transport=Transport())
        argv = [sys.executable, "-c", *words]
        started.append(vm._keep(guest, argv, lambda: None, detached=stays, name="6.12"))
        deadline = Deadline(10)
        while not guest.alive() and not deadline.over:
            time.sleep(0.02)
        return guest

    yield start
    for guest in started:
        guest.stop()


def _gone(guest):
    deadline = Deadline(10)
    while guest.run_dir.exists() and not deadline.over:
        time.sleep(0.02)
    return not guest.alive() and not guest.run_dir.exists()


def test_a_guest_is_up_for_others_once_it_was_released(keep):
    guest = keep(stays=True)
    process = guest.keeper
    assert guests.detached() == []
    assert guest.release()
    assert process.returncode == 0  # or Popen warns when it is collected
    assert [(entry.label, entry.alive) for entry in guests.detached()] == [("6.12", True)]
    assert guest.release()  # of one that lives on its own
    assert guest.alive()
    guest.stop()
    assert _gone(guest)


@pytest.mark.parametrize("change", [{"stays": False}, {"prepared": False}, {"transport": None}])
def test_a_guest_that_is_not_to_stay_or_not_ready_ends_when_it_is_released(keep, change):
    guest = keep(stays=True)
    for name, value in change.items():
        setattr(guest, name, value)
    assert not guest.release()
    assert _gone(guest)
    assert guests.detached() == []


def test_a_guest_of_an_aborted_run_ends(keep):
    guest = keep(stays=True)
    guest.keeper.stdin.close()
    assert not guest.release()
    assert _gone(guest)


def test_a_run_that_is_aborted_while_it_releases_its_guest_ends_it(keep, monkeypatch):
    guest = keep(stays=True)
    monkeypatch.setattr(vm.Guest, "hang_up", lambda guest: guest.keeper.stdin.close())
    assert not guest.release()
    assert _gone(guest)


def test_a_guest_whose_keeper_was_killed_is_not_up(keep, monkeypatch):
    guest = keep(stays=True)

    def killed(guest):
        guest.keeper.kill()
        guest.keeper.wait()

    monkeypatch.setattr(vm.Guest, "hang_up", killed)
    assert not guest.release()
    assert _gone(guest)


def test_a_harness_that_is_killed_before_it_releases_a_guest_leaves_none(keep):
    guest = keep(stays=True)
    guest.keeper.stdin.close()  # as the kernel does with a dead process' files
    assert _gone(guest)


@pytest.mark.parametrize(
    "before", [b"", b"\x00\x01end of the last conversation", b"SSH-", b"S" * 9000]
)
def test_what_the_last_connection_left_in_the_port_is_forgotten(runtime, before):
    ours, theirs = socket.socketpair()
    theirs.sendall(before + b"SSH-2.0-OpenSSH")
    login.wait_for_banner(vm.Guest(MACHINE, runtime, None), ours, Deadline(5))
    assert ours.recv(7) == b"SSH-2.0"
    ours.close()
    theirs.close()
