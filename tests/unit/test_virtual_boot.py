# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which guest a target gets: a warm, restored or new one, and what if it is of no use."""

import errno
from pathlib import Path

import pytest
from fake_guest import CASE, KERNEL, MACHINE, FakeClient, FakeGuest, runs

from harness import paths
from harness.config import Settings
from harness.errors import MachineLostError, WorldError
from harness.model import Verdict
from harness.target import boot, guests, login, saved, virtual, vm
from harness.target.base import Facts


def _refuses_warm_guests(guest, _timeout_s):
    if guest.boot_s:
        raise MachineLostError("ssh refused")


def test_a_warm_guest_that_refuses_us_is_replaced(monkeypatch, capsys):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    warm, fresh = FakeGuest(boot_s=4.0), FakeGuest()
    monkeypatch.setattr(boot, "_warm", lambda _: None if warm.stopped else warm)
    monkeypatch.setattr(saved, "find", lambda _: None)
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    monkeypatch.setattr(vm, "connect", _refuses_warm_guests)
    assert machine._connected() is fresh
    assert warm.stopped
    assert "ssh refused" in capsys.readouterr().err


@pytest.mark.parametrize("refused", [False, True])
def test_a_restored_guest_that_refuses_us_is_forgotten_and_booted_anew(
    monkeypatch, capsys, refused
):
    """At once where QEMU says that it is the state, else when it happens again."""
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    state = saved.Saved(Path("6.12-0"), (), saved.Opening(b""), 4.0)
    kept = [state]
    restored, fresh = FakeGuest(boot_s=4.0, state=state), FakeGuest()
    tries = []

    def restore(*_args, **_options):
        tries.append(1)
        return restored

    def connect(guest, _timeout_s):
        if guest.state is not None:
            raise saved.StateError("ssh refused", refused=refused)

    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: kept[0] if kept else None)
    monkeypatch.setattr(saved, "forget", kept.remove)
    monkeypatch.setattr(vm, "restore", restore)
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    monkeypatch.setattr(vm, "connect", connect)
    assert machine._connected() is fresh
    assert restored.stopped
    assert len(tries) == (1 if refused else 2)
    assert not kept
    assert "6.12-0 cannot be restored (ssh refused): booting anew" in capsys.readouterr().err


def test_a_saved_guest_is_asked_once_what_it_is(tmp_path):
    state = saved.Saved(tmp_path, (), saved.Opening(b""), 1.0)
    answer = {"kernel": "6.12", "bpftool": "v7.5.0", "jit": "1"}

    class Client:
        asked = 0

        def hello(self):
            self.asked += 1
            return answer

    client = Client()
    assert virtual._hello(client, state) == answer
    assert virtual._hello(client, state) == answer
    assert client.asked == 1
    assert virtual._hello(client, None) == answer  # one that was booted is always asked
    assert client.asked == 2
    (tmp_path / "hello.json").write_text("{")  # damaged: as good as absent
    assert virtual._hello(client, state) == answer
    assert client.asked == 3


def test_a_guest_that_qemu_does_not_restore_is_booted_anew(monkeypatch, capsys, tmp_path):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    fresh = FakeGuest()
    state = saved.Saved(tmp_path / "6.12-0", (), saved.Opening(b""), 1.0)

    def refuse(*_args, **_options):
        raise saved.StateError("QEMU ended: Missing section footer", refused=True)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: state)
    monkeypatch.setattr(vm, "restore", refuse)
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    monkeypatch.setattr(vm, "connect", _refuses_warm_guests)
    state.place.mkdir()
    assert machine._connected() is fresh
    assert not state.place.exists()
    assert "Missing section footer): booting anew" in capsys.readouterr().err


def test_a_keeper_that_was_killed_says_nothing_against_the_state(monkeypatch, capsys):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    state = saved.Saved(Path("6.12-0"), (), saved.Opening(b""), 1.0)
    fresh = FakeGuest(state=state)
    ends = [saved.StateError("the guest's keeper ended with code -9", refused=False)]

    def restore(*_args, **_options):
        if ends:
            raise ends.pop()
        return fresh

    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: state)
    monkeypatch.setattr(saved, "forget", lambda _: pytest.fail("forgot a good state"))
    monkeypatch.setattr(vm, "restore", restore)
    monkeypatch.setattr(vm, "connect", lambda *_: None)
    assert machine._connected() is fresh
    assert not capsys.readouterr().err


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A saved guest that lies in the cache; whether it still does is whether it is a directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(guests, "runtime_dir", lambda: tmp_path)
    state = saved.Saved(tmp_path / "6.12-0", (), saved.Opening(b""), 1.0)
    state.place.mkdir()
    monkeypatch.setattr(saved, "find", lambda _: state if state.place.is_dir() else None)
    return state


def _fails(error):
    def restore(*_args, **_options):
        raise error

    return restore


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space for .*: No space left"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/run/6.12-x/.machine"), "/run/6.12-x/"),
        (OSError(errno.EMFILE, "Too many open files", "6.12-0/user_key"), "Too many open files"),
    ],
)
def test_a_guests_own_directory_says_nothing_against_the_state(
    monkeypatch, capsys, kept, error, words
):
    monkeypatch.setattr(vm, "restore", _fails(error))
    monkeypatch.setattr(vm, "start", lambda *_, **__: pytest.fail("booted into the same trouble"))
    with pytest.raises(MachineLostError, match=words) as caught:
        boot.new(MACHINE, detached=False)
    assert caught.value.fix
    assert kept.place.is_dir()
    assert not capsys.readouterr().err


def test_a_full_runtime_directory_is_said_before_a_guest_is_started(monkeypatch, kept, tmp_path):
    monkeypatch.setattr(vm, "restore", lambda *_, **__: pytest.fail("started a guest"))
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 8192}))
    words = f"keys and console: 1 MB needed, 0 MB available in {tmp_path}\n"
    with pytest.raises(MachineLostError, match=words) as caught:
        boot.new(MACHINE, detached=False)
    assert "XDG_RUNTIME_DIR" in caught.value.fix
    assert kept.place.is_dir()


def test_a_state_with_a_file_missing_is_given_up(monkeypatch, capsys, kept):
    missing = FileNotFoundError(errno.ENOENT, "No such file", str(kept.place / "user_key"))
    fresh = FakeGuest()
    monkeypatch.setattr(vm, "restore", _fails(missing))
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    assert boot.new(MACHINE, detached=False) is fresh
    assert not kept.place.exists()
    assert "user_key'): booting anew" in capsys.readouterr().err


def test_cold_means_cold(monkeypatch):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings(cold=True))
    fresh = FakeGuest()
    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: pytest.fail("looked for a saved guest"))
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    monkeypatch.setattr(vm, "connect", _refuses_warm_guests)
    assert machine._connected() is fresh


def test_a_fresh_guest_that_refuses_us_is_not_tried_again(monkeypatch):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: None)
    monkeypatch.setattr(vm, "start", lambda *_, **__: FakeGuest())

    def refuse(_guest, _timeout_s):
        raise MachineLostError("ssh refused")

    monkeypatch.setattr(vm, "connect", refuse)
    with pytest.raises(MachineLostError, match="ssh refused"):
        machine._connected()


def test_an_agent_that_does_not_start_loses_the_machine_once(monkeypatch):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    guest = FakeGuest()

    def boot_():
        machine._guest, machine._client = guest, FakeClient([], guest)
        raise WorldError("agent: bpffs is not mounted", evidence="mounts")

    monkeypatch.setattr(machine, "_boot", boot_)
    for _ in range(2):
        with pytest.raises(MachineLostError, match="bpffs is not mounted"):
            machine.run(CASE)
    assert guest.stopped


@pytest.mark.parametrize("warm", [False, True])
def test_a_fresh_guest_is_never_the_one_there_was(monkeypatch, warm):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    old, new = FakeGuest(lock=object() if warm else None), FakeGuest()
    machine._guest, machine._used = old, True
    monkeypatch.setattr(boot, "_warm", lambda _: pytest.fail("looked for a warm guest"))
    monkeypatch.setattr(saved, "find", lambda _: None)
    monkeypatch.setattr(vm, "start", lambda *_, **__: new)
    assert machine.renew()
    assert machine._guest is new
    assert old.stopped is not warm
    assert old.released is warm


def test_a_guest_that_was_begun_ahead_is_fresh_already(monkeypatch):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    machine._guest = FakeGuest()
    monkeypatch.setattr(boot, "new", lambda *_, **__: pytest.fail("started another one"))
    assert machine.renew()


def _boots(machine, monkeypatch, *errors):
    """Each start of a guest ends with the next error, or well where that is None."""
    left, guests = list(errors), []

    def boot_():
        guest, error = FakeGuest(boot_s=0.5), left.pop(0)
        guests.append(guest)
        machine._guest = guest
        if error is not None:
            guest.boot_s = getattr(error, "boot_s", 0.0)
            raise error
        machine._client = FakeClient([runs], guest)
        machine._facts = Facts("6.12.107", "tcg", "1", "bpftool")

    monkeypatch.setattr(machine, "_boot", boot_)
    return guests


def _lost(boot_s):
    error = MachineLostError("the agent does not listen")
    error.boot_s = boot_s
    return error


@pytest.mark.parametrize("error", [_lost(0.5), login.EndedError("did not boot: QEMU ended")])
def test_a_guest_that_is_killed_before_its_first_case_costs_none(monkeypatch, capsys, error):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    guests = _boots(machine, monkeypatch, error, None)
    assert machine.run(CASE).verdict is Verdict.RAN
    assert [guest.stopped for guest in guests] == [True, False]
    assert "another guest is started in its place" in capsys.readouterr().err


@pytest.mark.parametrize(
    "errors", [[_lost(0.0)], [_lost(0.5), _lost(0.5)], [login.EndedError("x"), _lost(0.0)]]
)
def test_a_kernel_whose_guests_do_not_come_up_is_given_up(monkeypatch, errors):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    guests = _boots(machine, monkeypatch, *errors)
    for _ in range(2):
        with pytest.raises(MachineLostError):
            machine.run(CASE)
    assert len(guests) == len(errors)
