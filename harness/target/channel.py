# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The way into a machine: paramiko over any socket, SFTP for files, one channel for the agent.

Owns host-key checking and the framing of requests. Knows nothing of what the machine is.
"""

import json
import logging
import os
import posixpath
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import paramiko

from harness.errors import MachineLostError, UsageError, WorldError
from harness.target.deadline import Deadline
from harness.target.opening import IDENTITY

if TYPE_CHECKING:
    import subprocess

# paramiko logs a traceback for every connection that ends unexpectedly; we report those ourselves
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_LINE_MAX_BYTES = 64 << 20
_KEEPALIVE_S = 2
_KEX = "ecdh-sha2-nistp256"


class RequestTimeoutError(WorldError):
    """The agent did not answer in time; the machine may hang."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are and whom we expect."""

    user: str
    key: paramiko.PKey
    host_key: paramiko.PKey


def connect(sock: socket.socket, login: Login, deadline: Deadline) -> paramiko.Transport:
    """An authenticated transport over a connected socket.

    MachineLostError when the other side is not who it should be or does not answer in time.
    """
    transport = paramiko.Transport(sock)
    transport.local_version = IDENTITY
    # for the reason that the keys are on this curve (virtme.py)
    transport.get_security_options().kex = (_KEX, *transport.get_security_options().kex)
    transport.banner_timeout = deadline.left_s()
    transport.auth_timeout = deadline.left_s()
    try:
        transport.start_client(timeout=deadline.left_s())
        _check_host_key(transport.get_remote_server_key(), login.host_key)
        with limited(transport, deadline.left_s()):
            transport.auth_publickey(login.user, login.key)
    except (paramiko.SSHException, EOFError, OSError) as error:
        transport.close()
        raise MachineLostError(f"ssh refused: {_words(error)}") from error
    except BaseException:
        transport.close()
        raise
    # Also wakes a guest whose virtio port lost an interrupt: seen as a session that never began.
    transport.set_keepalive(_KEEPALIVE_S)
    return transport


def _check_host_key(seen: paramiko.PKey, expected: paramiko.PKey) -> None:
    if seen.asbytes() != expected.asbytes():
        raise MachineLostError(
            f"the machine's host key is {seen.get_base64()[:24]}..., not the one it was given",
            fix="bpfthrow vm down --all, then try again; if it persists, someone is in between",
        )


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


class Files:
    """Pushes files to a machine over one SFTP session, opened on first use."""

    def __init__(self, transport: paramiko.Transport, timeout_s: float = 60.0) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._sftp: paramiko.SFTPClient | None = None
        # directories that are there
        self._there: set[str] = set()

    def push(self, files: dict[str, Path | bytes]) -> None:
        """Write files on the machine, in order, directories made as needed.

        MachineLostError when that fails or takes longer than the time-out.
        """
        with self._session() as sftp:
            for remote, content in files.items():
                self._make_directory(sftp, posixpath.dirname(remote))
                data = content if isinstance(content, bytes) else content.read_bytes()
                with sftp.open(remote, "wb") as out:
                    out.set_pipelined(True)
                    out.write(data)

    def _make_directory(self, sftp: paramiko.SFTPClient, directory: str) -> None:
        if directory in self._there:
            return
        try:
            sftp.mkdir(directory, 0o700)
        except FileNotFoundError:
            self._make_directory(sftp, posixpath.dirname(directory))
            sftp.mkdir(directory, 0o700)
        except OSError:
            # sftp has no word for a directory that is there already
            if not _exists(sftp, directory):
                raise
        self._there.add(directory)

    def has(self, remote: str) -> bool:
        """Whether there is a file of that name on the machine."""
        with self._session() as sftp:
            return _exists(sftp, remote)

    @contextmanager
    def _session(self) -> Iterator[paramiko.SFTPClient]:
        try:
            with limited(self._transport, self._timeout_s):
                self._sftp = self._sftp or self._open()
                yield self._sftp
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise MachineLostError(f"cannot push files: {_words(error)}") from error

    def _open(self) -> paramiko.SFTPClient:
        session = self._transport.open_session(timeout=self._timeout_s)
        session.invoke_subsystem("sftp")
        return paramiko.SFTPClient(session)


@contextmanager
def limited(transport: paramiko.Transport, seconds: float) -> Iterator[None]:
    """Close the transport when the block takes longer: paramiko waits for ever in many places."""
    timer = threading.Timer(seconds, transport.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _exists(sftp: paramiko.SFTPClient, remote: str) -> bool:
    try:
        sftp.stat(remote)
    except FileNotFoundError:
        return False
    return True


class Stream(Protocol):
    """What an agent channel needs of the thing below: a paramiko channel has it."""

    def settimeout(self, timeout: float | None) -> None:
        """Seconds that sendall() and recv() may take before TimeoutError."""

    def sendall(self, data: bytes) -> object:
        """Send everything."""

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes, at least one; b"" at the end."""

    def recv_stderr_ready(self) -> bool:
        """Whether recv_stderr() would not wait."""

    def recv_stderr(self, size: int) -> bytes:
        """As recv(), of the agent's standard error."""

    def close(self) -> None:
        """End of file for the agent."""


class PipeStream:
    """A stream over the pipes of a child process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        self._timeout: float | None = None

    def settimeout(self, timeout: float | None) -> None:
        """See Stream."""
        self._timeout = timeout

    def sendall(self, data: bytes) -> None:
        """See Stream."""
        self._in.write(data)

    def recv(self, size: int) -> bytes:
        """See Stream."""
        if not select.select([self._out], [], [], self._timeout)[0]:
            raise TimeoutError
        return os.read(self._out.fileno(), size)

    def recv_stderr_ready(self) -> bool:
        """See Stream."""
        return bool(select.select([self._err], [], [], 0)[0])

    def recv_stderr(self, size: int) -> bytes:
        """See Stream."""
        return os.read(self._err.fileno(), size)

    def close(self) -> None:
        """See Stream."""
        self._in.close()


class AgentChannel:
    """Requests and responses, one JSON line each, over the agent's standard streams."""

    def __init__(self, channel: Stream) -> None:
        self._channel = channel
        self._number = 0
        self._buffer = bytearray()
        self.stderr = ""

    def request(self, op: str, timeout_s: float, **fields: Any) -> Any:
        """The result of one request.

        RequestTimeoutError after `timeout_s`; MachineLostError when the channel ends;
        WorldError with the agent's own words when it says no.
        """
        self._number += 1
        line = json.dumps({"id": self._number, "op": op, **fields}) + "\n"
        deadline = Deadline(timeout_s)
        try:
            self._channel.settimeout(deadline.left_s())
            self._channel.sendall(line.encode())
            answer = self._answer(deadline)
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"no answer to {op!r} in {timeout_s:.0f} s", evidence=self._errors()
            ) from error
        except (OSError, EOFError, ValueError, paramiko.SSHException) as error:
            raise MachineLostError(
                f"the agent went away during {op!r}", evidence=self._errors()
            ) from error
        if answer.get("ok"):
            return answer.get("result")
        wrong = answer.get("error") or {}
        if wrong.get("kind") == "usage":
            raise UsageError(str(wrong.get("message", f"the agent refuses {op!r}")))
        raise WorldError(
            f"agent: {wrong.get('message', 'an error without words')}",
            evidence=str(wrong.get("evidence", "")),
        )

    def _answer(self, deadline: Deadline) -> dict[str, Any]:
        while True:
            answer = json.loads(self._line(deadline))
            # an answer to a request that had timed out may still be on its way
            if isinstance(answer, dict) and answer.get("id") == self._number:
                return answer

    def _line(self, deadline: Deadline) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if deadline.over:
                raise TimeoutError
            self._channel.settimeout(deadline.left_s())
            piece = self._channel.recv(1 << 16)
            if not piece:
                raise EOFError
            self._buffer += piece
            if len(self._buffer) > _LINE_MAX_BYTES:
                raise EOFError
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _errors(self) -> str:
        while self._channel.recv_stderr_ready():
            piece = self._channel.recv_stderr(1 << 16)
            if not piece:
                break
            self.stderr += piece.decode(errors="replace")
        return self.stderr

    def close(self) -> None:
        """End the agent: it cleans up at end of file."""
        self._channel.close()


def start_agent(transport: paramiko.Transport, command: str, timeout_s: float) -> AgentChannel:
    """Run the agent's command in a new session."""
    try:
        with limited(transport, timeout_s):
            channel = transport.open_session(timeout=timeout_s)
            channel.exec_command(command)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise MachineLostError(f"cannot start the agent: {error}") from error
    return AgentChannel(channel)


def attach_agent(transport: paramiko.Transport, port: int, timeout_s: float) -> AgentChannel:
    """Connect to an agent that listens on the machine's own loopback, through sshd."""
    here = ("127.0.0.1", 0)
    try:
        with limited(transport, timeout_s):
            kind, there = "direct-tcpip", ("127.0.0.1", port)
            channel = transport.open_channel(kind, there, here, timeout=timeout_s)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise MachineLostError(f"the agent does not listen: {_words(error)}") from error
    return AgentChannel(channel)
