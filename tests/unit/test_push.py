# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Files over SFTP, against a server of paramiko's on a directory of this machine."""

import socket
import threading

import paramiko
import pytest

from harness.errors import MachineLostError
from harness.target import channel


class Server(paramiko.ServerInterface):
    """Lets everybody in."""

    def check_auth_none(self, username):
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username):
        return "none"

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED


class Handle(paramiko.SFTPHandle):
    """A file that is written."""

    def __init__(self, place):
        super().__init__()
        self.writefile = place.open("wb")


class Directory(paramiko.SFTPServerInterface):
    """What is below `root`; notes what it is asked, answers as OpenSSH does."""

    def __init__(self, server, root, asked):
        super().__init__(server)
        self.root, self.asked = root, asked

    def _tried(self, word, path, work):
        self.asked.append((word, path))
        try:
            return work(self.root / path.lstrip("/"))
        except FileNotFoundError:
            return paramiko.SFTP_NO_SUCH_FILE
        except PermissionError:
            return paramiko.SFTP_PERMISSION_DENIED
        except OSError:
            return paramiko.SFTP_FAILURE

    def stat(self, path):
        found = paramiko.SFTPAttributes.from_stat
        return self._tried("stat", path, lambda place: found(place.stat()))

    def mkdir(self, path, attr):
        return self._tried("mkdir", path, lambda place: place.mkdir() or paramiko.SFTP_OK)

    def open(self, path, flags, attr):
        return self._tried("open", path, Handle)


@pytest.fixture
def machine(tmp_path):
    """(Files that pushes into `tmp_path`, what the server was asked)."""
    ours, theirs = socket.socketpair()
    asked = []
    server = paramiko.Transport(theirs)
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.set_subsystem_handler("sftp", paramiko.SFTPServer, Directory, tmp_path, asked)
    server.start_server(event=threading.Event(), server=Server())
    client = paramiko.Transport(ours)
    client.start_client(timeout=20)
    client.auth_none("root")
    yield channel.Files(client, 20.0), asked
    client.close()
    server.close()


def test_directories_are_made_once(machine, tmp_path):
    files, asked = machine
    (tmp_path / "run").mkdir()
    files.push({"/run/objects/one/a.o": b"a", "/run/objects/one/b.o": b"b"})
    files.push({"/run/objects/two/c.o": b"c" * 100_000})
    read = {path.name: path.read_bytes() for path in tmp_path.glob("run/objects/*/*")}
    assert read == {"a.o": b"a", "b.o": b"b", "c.o": b"c" * 100_000}
    assert [word for word, path in asked if path == "/run/objects"] == ["mkdir"]
    # nothing is asked about what is known: a case waits for every answer
    assert asked[-2:] == [("mkdir", "/run/objects/two"), ("open", "/run/objects/two/c.o")]


def test_directories_that_are_there_are_used(machine, tmp_path):
    files, _ = machine
    (tmp_path / "run/objects").mkdir(parents=True)
    files.push({"/run/objects/a.o": b"a"})
    assert (tmp_path / "run/objects/a.o").read_bytes() == b"a"
    assert files.has("/run/objects/a.o")
    assert not files.has("/run/objects/b.o")


def test_a_file_where_a_directory_should_be(machine, tmp_path):
    files, _ = machine
    (tmp_path / "run").touch()
    with pytest.raises(MachineLostError, match="cannot push files"):
        files.push({"/run/objects/a.o": b"a"})
