# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Saving and restoring a guest: the ssh opening, QEMU's control socket, the cache."""

import json
import os
import shutil
import socket
import stat
import threading

import pytest

from harness.errors import MachineLostError, WorldError
from harness.target import guests, opening, qmp, saved, vm
from harness.target.deadline import Deadline
from harness.target.machine import Machine

KEXINIT = b"\0\0\0\x05\x04proposal"[:9]


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)
    yield ours, theirs
    ours.close()
    theirs.close()


# ---- the opening ---------------------------------------------------------------------------


def test_the_opening_is_the_servers_line_and_first_packet(pair):
    ours, theirs = pair
    theirs.sendall(b"SSH-2.0-x\r\n" + KEXINIT + b"later")
    held = opening.hold(ours)
    assert held.heard == b"SSH-2.0-x\r\n" + KEXINIT
    assert theirs.recv(100) == held.said == b"SSH-2.0-bpfthrow\r\n"


def test_a_resumed_socket_replays_the_opening_and_holds_back_what_was_said(pair):
    ours, theirs = pair
    sock = opening.Opening(b"SSH-2.0-x\r\nKEX").resume(ours)
    with sock:
        theirs.sendall(b"new")
        assert sock.recv(4) == b"SSH-"
        assert sock.recv(100) == b"2.0-x\r\nKEX"
        assert sock.recv(100) == b"new"
        said = b"SSH-2.0-bpfthrow\r\nmore"
        assert sock.send(said) == len(said) - len("more")
        assert sock.send(b"more") == 4
        assert theirs.recv(100) == b"more"


def test_a_client_that_begins_otherwise_is_noticed(pair):
    with opening.Opening(b"").resume(pair[0]) as sock, pytest.raises(OSError, match="otherwise"):
        sock.send(b"SSH-2.0-somebody\r\n")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"x" * 300 + b"\n", "no ssh server"),
        (b"SSH-2.0-x\r\n\xff\xff\xff\xff", "first packet"),
        (b"SSH-2.0-x\r\n\0\0\0\x09abc", "ended at its beginning"),
    ],
)
def test_a_strange_server_is_a_lost_machine(pair, said, words):
    ours, theirs = pair
    theirs.sendall(said)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(MachineLostError, match=words):
        opening.hold(ours)


# ---- QEMU's control socket -----------------------------------------------------------------


class FakeQemu:
    """Answers each command with the next of its replies; `asked` has what came."""

    def __init__(self, place, replies):
        self.asked, self._replies = [], replies
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(place / qmp.SOCKET))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        connection, _ = self._server.accept()
        with connection, connection.makefile("rwb") as lines:
            lines.write(b'{"QMP": {}}\n')
            lines.flush()
            for line in lines:
                asked = json.loads(line)
                self.asked.append((asked["execute"], asked["arguments"]))
                if asked["execute"] in ("qmp_capabilities", "migrate-set-parameters", "cont"):
                    reply = {"return": {}}
                else:
                    reply = self._replies.pop(0) if self._replies else None
                if reply is None:
                    return
                lines.write(b'{"event": "STOP"}\n' + json.dumps(reply).encode() + b"\n")
                lines.flush()

    def end(self):
        self._thread.join(5)
        self._server.close()


def _status(word, **more):
    return {"return": {"status": word, **more}}


def test_a_state_is_written_and_the_guest_goes_on(tmp_path):
    qemu = FakeQemu(tmp_path, [{"return": {}}, _status("active"), _status("completed")])
    with qmp.Monitor(tmp_path, Deadline(5)) as monitor:
        monitor.save(tmp_path / "state")
    qemu.end()
    names = [name for name, _ in qemu.asked]
    assert names[-1] == "cont"
    assert ("migrate", {"uri": f"exec:cat > {tmp_path}/state"}) in qemu.asked


def test_a_state_that_cannot_be_written_leaves_the_guest_running(tmp_path):
    why = _status("failed", **{"error-desc": "No space left on device"})
    qemu = FakeQemu(tmp_path, [{"return": {}}, why])
    with (
        qmp.Monitor(tmp_path, Deadline(5)) as monitor,
        pytest.raises(WorldError, match="No space left"),
    ):
        monitor.save(tmp_path / "state")
    qemu.end()
    assert qemu.asked[-1][0] == "cont"


def _state(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"memory")
    return path


def test_a_state_goes_to_qemu_as_an_open_file(tmp_path):
    qemu = FakeQemu(tmp_path, [{"return": {}}, {"return": {}}])
    with qmp.Monitor(tmp_path, Deadline(5)) as monitor:
        monitor.restore(_state(tmp_path))
    qemu.end()
    expected = [("getfd", {"fdname": "state"}), ("migrate-incoming", {"uri": "fd:state"})]
    assert qemu.asked[1:] == expected


def test_a_state_that_is_gone_is_named(tmp_path):
    qemu = FakeQemu(tmp_path, [])
    gone = pytest.raises(WorldError, match="the guest's state: .*No such file")
    with qmp.Monitor(tmp_path, Deadline(5)) as monitor, gone:
        monitor.restore(tmp_path / "nowhere")
    qemu.end()


def test_a_refusal_has_qemus_words(tmp_path):
    qemu = FakeQemu(tmp_path, [{"error": {"desc": "State blocked by device"}}])
    with qmp.Monitor(tmp_path, Deadline(5)) as monitor, pytest.raises(WorldError, match="blocked"):
        monitor.restore(_state(tmp_path))
    qemu.end()


def test_qemu_that_ends_and_qemu_that_is_not_there(tmp_path):
    qemu = FakeQemu(tmp_path, [])
    with qmp.Monitor(tmp_path, Deadline(5)) as monitor, pytest.raises(WorldError, match="ended"):
        monitor.restore(_state(tmp_path))
    qemu.end()
    with pytest.raises(WorldError, match="control socket"):
        qmp.Monitor(tmp_path / "nowhere", Deadline(1))


# ---- the cache -----------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose guest was booted: its run directory is tmp_path/run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("harness.target.machine.initramfs.common_part", lambda _: tmp_path / "i.c")
    qemu, image, run_dir = tmp_path / "qemu", tmp_path / "bzImage", tmp_path / "run"
    run_dir.mkdir()
    for path in (qemu, image):
        path.write_text("x")
    monkeypatch.setattr(saved.tools, "need", lambda _: str(qemu))
    for name in ("user_key", "host_key"):
        (run_dir / name).touch(mode=0o600)
        (run_dir / name).write_text(name)
    (run_dir / "console.log").write_text("[ 0.0] Linux version\n")
    (run_dir / "argv").write_text(f"-serial\0file:{run_dir}/console.log\0-m\0")
    return Machine("6.12", "6.12.1", image, None, tmp_path / "root", "0", memory_mib=64)


HELD = opening.Opening(b"SSH-2.0-x\r\nKEX")


def _write(machine, run_dir):
    saved.write(machine, run_dir, HELD, 4.0, lambda path: path.write_bytes(b"memory"))


def test_what_was_saved_is_found_and_furnishes_another_directory(machine, tmp_path):
    assert saved.find(machine) is None
    _write(machine, tmp_path / "run")
    found = saved.find(machine)
    assert (found.opening, found.boot_s) == (HELD, 4.0)
    other = tmp_path / "other"
    other.mkdir()
    found.furnish(other)
    assert found.argv_in(other)[1:3] == ["-serial", f"file:{other}/console.log"]
    assert (other / saved.STATE).read_bytes() == b"memory"
    assert (other / "user_key").read_text() == "user_key"
    assert not (tmp_path / "run" / saved.STATE).exists()


def test_a_restored_guest_has_the_console_of_its_boot_apart_from_its_own(machine, tmp_path):
    _write(machine, tmp_path / "run")
    other = tmp_path / "other"
    other.mkdir()
    saved.find(machine).furnish(other)
    guest = vm.Guest(machine, other, None)
    assert guests.whole_console(other) == "[ 0.0] Linux version\n"
    guest.console.write_text("[ 9.0] later\n")
    assert guests.whole_console(other) == "[ 0.0] Linux version\n[ 9.0] later\n"
    # what a case is blamed for
    assert guest.console_text() == "[ 9.0] later\n"


def test_a_state_without_the_console_of_its_boot_is_written_anew(machine, tmp_path):
    _write(machine, tmp_path / "run")
    (saved.find(machine).place / guests.BOOT_LOG).unlink()
    assert saved.find(machine) is None
    _write(machine, tmp_path / "run")
    assert saved.find(machine) is not None


def test_memory_and_keys_are_private(machine, tmp_path):
    _write(machine, tmp_path / "run")
    place = saved.find(machine).place
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    for name in (saved.STATE, "user_key", "host_key", guests.BOOT_LOG):
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o600


def test_a_state_belongs_to_one_kernel_agent_and_qemu(machine, tmp_path):
    _write(machine, tmp_path / "run")
    os.utime(machine.kernel, (1, 1))
    assert saved.find(machine) is None
    _write(machine, tmp_path / "run")
    (tmp_path / "qemu").write_text("another one")
    assert saved.find(machine) is None


def test_only_the_last_two_of_a_kernel_are_kept(machine, tmp_path):
    for number in range(4):
        os.utime(machine.kernel, (number, number))
        _write(machine, tmp_path / "run")
        os.utime(saved.find(machine).place, (number, number))
    assert len(list(saved.saved_dir().glob("6.12.1-*"))) == 2
    assert saved.find(machine) is not None


def test_a_failed_or_half_written_state_is_absent(machine, tmp_path):
    def fails(path):
        path.write_bytes(b"half")
        raise WorldError("No space left on device")

    with pytest.raises(WorldError):
        saved.write(machine, tmp_path / "run", HELD, 4.0, fails)
    assert saved.find(machine) is None
    assert not [path for path in saved.saved_dir().iterdir() if path.is_dir()]
    assert not (tmp_path / "run" / saved.STATE).is_symlink()


def test_a_full_disk_is_said_before_anything_is_written(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "harness.paths.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})
    )
    with pytest.raises(MachineLostError, match="no space for a saved guest"):
        _write(machine, tmp_path / "run")


def test_a_disk_that_fills_up_meanwhile_is_named(machine, tmp_path, monkeypatch):
    free = [1 << 40]
    monkeypatch.setattr(
        "harness.paths.shutil.disk_usage", lambda _: type("Usage", (), {"free": free[0]})
    )

    def fills(path):
        path.write_bytes(b"half")
        free[0] = 0
        raise WorldError("Unable to write to command: Broken pipe")

    with pytest.raises(WorldError, match=f"no space left in {saved.saved_dir()}"):
        saved.write(machine, tmp_path / "run", HELD, 4.0, fills)
    assert saved.find(machine) is None


def test_two_harnesses_that_save_the_same_guest_leave_one_whole_state(machine, tmp_path):
    """The second one comes while the first is at it, waits, and replaces what is there."""
    entered, go = threading.Event(), threading.Event()
    order = []

    def slow(path):
        entered.set()
        assert go.wait(10)
        path.write_bytes(b"first")
        order.append("first")

    def quick(path):
        path.write_bytes(b"second")
        order.append("second")

    other = tmp_path / "other"
    shutil.copytree(tmp_path / "run", other)
    first = threading.Thread(target=saved.write, args=(machine, tmp_path / "run", HELD, 4.0, slow))
    second = threading.Thread(target=saved.write, args=(machine, other, HELD, 4.0, quick))
    first.start()
    assert entered.wait(10)
    second.start()
    go.set()
    first.join(10)
    second.join(10)
    assert order == ["first", "second"]
    assert saved.find(machine).state.read_bytes() == b"second"
    assert [p.name for p in saved.saved_dir().iterdir()] == [saved.find(machine).place.name]


@pytest.mark.parametrize("note", ["", "{", "[]", '{"argv": 3}', '{"heard": "zz"}'])
def test_a_damaged_note_is_no_saved_guest(machine, tmp_path, note):
    _write(machine, tmp_path / "run")
    (saved.find(machine).place / "saved.json").write_text(note)
    assert saved.find(machine) is None


def test_forgetting_is_for_good(machine, tmp_path):
    _write(machine, tmp_path / "run")
    saved.forget(saved.find(machine))
    assert saved.find(machine) is None
