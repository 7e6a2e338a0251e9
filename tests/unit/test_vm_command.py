# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Names of warm guests, and what `vm ssh` passes on."""

import argparse
import contextlib
import dataclasses
import json
import os
import types
from pathlib import Path

import pytest

from harness.errors import Exit, MachineLostError, UsageError
from harness.target import guests, vm_command


def _guest(directory, label="6.12"):
    recipe = {"release": "6.12.107", "accelerator": "tcg", "memory_mib": 512, "cpus": 1}
    return guests.Detached(label, Path(directory), recipe, 1.0, 2.0, True, True)


@pytest.fixture
def up(monkeypatch, tmp_path):
    """Three guests, two of which have the same label."""
    entries = [_guest(tmp_path / name, name[:4]) for name in ("6.12-aaa", "6.12-bbb", "6.18-ccc")]
    monkeypatch.setattr(guests, "detached", lambda: entries)
    return entries


def _words(*words):
    parser = argparse.ArgumentParser()
    vm_command.add_parser(parser.add_subparsers())
    return parser.parse_args(["vm", *words])


def test_every_name_that_is_listed_can_be_typed(up, capsys):
    assert vm_command.run(_words("list", "--json")) == Exit.OK
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names == ["6.12-aaa", "6.12-bbb", "6.18"]
    assert [vm_command._find(name) for name in names] == up
    assert vm_command._find("6.18-ccc") == up[2]


def test_an_ambiguous_name_is_refused_with_those_that_are_not(up):
    with pytest.raises(UsageError, match=r"6\.12-aaa \(up\), 6\.12-bbb \(up\), 6\.18"):
        vm_command._find("6.12")


def test_ended_guests_are_not_said_to_be_up(up, monkeypatch):
    ended = [dataclasses.replace(entry, alive=False) for entry in up[:2]]
    monkeypatch.setattr(guests, "detached", lambda: ended)
    with pytest.raises(UsageError, match=r"6\.12-aaa \(ended\), 6\.12-bbb \(ended\)"):
        vm_command._find("")


def test_down_of_a_guest_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(guests, "detached", list)
    with pytest.raises(UsageError, match=r"no guest is called '9\.9'"):
        vm_command.run(_words("down", "9.9"))
    assert vm_command.run(_words("down")) == Exit.OK
    assert capsys.readouterr().out == "ended: -\n"


def test_log_as_json(up, capsys):
    up[2].run_dir.mkdir()
    (up[2].run_dir / "boot.log").write_text("[ 0.0] Linux version\n")
    (up[2].run_dir / "console.log").write_text("[ 9.0] later\n")
    assert vm_command.run(_words("log", "6.18", "--json")) == Exit.OK
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"name": "6.18", "console": "[ 0.0] Linux version\n[ 9.0] later\n"}


class Guest:
    """What `vm up` has to do with; `acts` says when it goes wrong."""

    machine = types.SimpleNamespace(release="6.12.107")

    def __init__(self, acts):
        self.acts, self.stopped = acts, False

    def release(self):
        return self.acts()

    def stop(self):
        self.stopped = True


@pytest.fixture
def bring_up(monkeypatch):
    """Runs `vm up` on a guest whose release does as told; the guest."""

    def run(acts, error=None):
        guest = Guest(acts)
        kernel = types.SimpleNamespace(name="6.12", release="6.12.107")
        monkeypatch.setattr(guests, "detached", list)
        monkeypatch.setattr(vm_command.kernels, "resolve_all", lambda _names: [kernel])
        monkeypatch.setattr(vm_command.boot, "machine_for", lambda *_: None)
        monkeypatch.setattr(vm_command, "recipe", lambda _machine: {})
        monkeypatch.setattr(vm_command.boot, "new", lambda *_, **__: guest)
        monkeypatch.setattr(vm_command, "prepare", lambda *_, **__: None)
        with pytest.raises(error) if error else contextlib.nullcontext():
            vm_command.run(_words("up", "--kernel", "6.12"))
        return guest

    return run


def test_a_guest_that_is_said_to_be_up_is_left_alone(bring_up, capsys):
    assert not bring_up(lambda: True).stopped
    assert "6.12.107 is up after" in capsys.readouterr().err


def test_vm_up_that_is_interrupted_at_its_very_end_leaves_no_guest(bring_up, capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert bring_up(interrupted, KeyboardInterrupt).stopped
    assert "is up" not in capsys.readouterr().err


def test_a_guest_that_ends_when_it_is_let_go_is_not_said_to_be_up(bring_up, capsys):
    assert bring_up(lambda: False, MachineLostError).stopped
    assert "is up" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dmesg"], "dmesg"),
        (["dmesg | tail -1"], "dmesg | tail -1"),
        (["sh", "-c", "exit 7"], "sh -c 'exit 7'"),
        (["ls", "/no such dir"], "ls '/no such dir'"),
    ],
)
def test_one_word_is_a_line_for_the_shell_and_several_stay_what_they_are(words, line):
    assert vm_command._command_line(words) == line


def test_a_shell_has_no_json(up):
    arguments = _words("ssh", "6.18", "--json")
    arguments.behind = []
    with pytest.raises(UsageError, match="goes with a command"):
        vm_command.run(arguments)


class Session:
    """A paramiko channel whose pieces come in a given order."""

    def __init__(self, pieces, status, alive=True):
        self.pieces, self.status, self.alive = list(pieces), status, alive
        self.closed = False
        self.pipe = os.pipe()
        os.write(self.pipe[1], b"x")

    def fileno(self):
        return self.pipe[0]

    @property
    def eof_received(self):
        return not self.pieces

    def recv_ready(self):
        return bool(self.pieces) and self.pieces[0][0] == 1

    def recv_stderr_ready(self):
        return bool(self.pieces) and self.pieces[0][0] == 2

    def recv(self, _size):
        return self.pieces.pop(0)[1]

    recv_stderr = recv

    def recv_exit_status(self):
        return self.status

    def get_transport(self):
        return types.SimpleNamespace(is_active=lambda: self.alive)

    def close(self):
        for descriptor in self.pipe:
            os.close(descriptor)


@pytest.mark.parametrize(("status", "code"), [(0, 0), (7, 7), (-1, 255)])
def test_output_comes_in_its_order_and_the_code_is_the_commands(monkeypatch, status, code):
    pieces = [(2, b"warning\n"), (1, b"one\n"), (2, b"again\n"), (1, b"two\n")]
    session, written = Session(pieces, status), []
    monkeypatch.setattr(vm_command, "_write", lambda fd, data: written.append((fd, data)))
    assert vm_command._relay(session) == code
    assert written == pieces
    session.close()


@pytest.mark.parametrize(("status", "code"), [(0, 0), (7, 7), (-1, 255)])
def test_a_command_as_json(capsys, status, code):
    session = Session([(2, b"warning\n"), (1, b"\xc3"), (1, b"\xa4 \xff\n")], status)
    assert vm_command._tell(session) == code
    answer = json.loads(capsys.readouterr().out)
    said = {"stdout": "\u00e4 \ufffd\n", "stderr": "warning\n"}
    assert answer == {"schema": 1, "exit_code": code, **said}
    session.close()


def test_a_command_whose_guest_goes_away_says_so():
    session = Session([(1, b"one\n")], -1, alive=False)
    with pytest.raises(MachineLostError, match="the guest went away"):
        vm_command._tell(session)
    session.close()
