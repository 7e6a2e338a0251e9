# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Names of warm guests, and what `vm ssh` passes on."""

import argparse
import json
import os
from pathlib import Path

import pytest

from harness.errors import Exit, UsageError
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
    with pytest.raises(UsageError, match=r"6\.12-aaa, 6\.12-bbb, 6\.18"):
        vm_command._find("6.12")


def test_log_as_json(up, capsys):
    up[2].run_dir.mkdir()
    (up[2].run_dir / "console.log").write_text("[ 0.0] Linux version\n")
    assert vm_command.run(_words("log", "6.18", "--json")) == Exit.OK
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"name": "6.18", "console": "[ 0.0] Linux version\n"}


class Session:
    """A paramiko channel whose pieces come in a given order."""

    def __init__(self, pieces, status):
        self.pieces, self.status = list(pieces), status
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


@pytest.mark.parametrize(("status", "code"), [(0, 0), (7, 7), (-1, Exit.LOST)])
def test_output_comes_in_its_order_and_the_code_is_the_commands(monkeypatch, status, code):
    pieces = [(2, b"warning\n"), (1, b"one\n"), (2, b"again\n"), (1, b"two\n")]
    session, written = Session(pieces, status), []
    monkeypatch.setattr(vm_command, "_write", lambda fd, data: written.append((fd, data)))
    assert vm_command._relay(session) == code
    assert written == pieces
    for descriptor in session.pipe:
        os.close(descriptor)
