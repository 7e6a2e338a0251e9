# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The opening of an ssh conversation, held once and gone on with many times.

sshd's start and its first two messages cost a third of a second of emulated time. A guest is saved
after them, so the host's side must go on from there as well: the server's identification and key
exchange proposal are replayed to paramiko, and paramiko's own identification, which the server has
had already, is held back. All of it is sent before there are keys (RFC 4253, sections 4.2 and 7.1);
everything secret comes later, and is new each time as far as the host is concerned.
"""

import socket
from dataclasses import dataclass

from harness.errors import MachineLostError

# RFC 4253 section 4.2; part of what both sides sign, so it must be the same when we go on
IDENTITY = "SSH-2.0-bpfthrow"
_LINE_MAX_BYTES = 255
_PACKET_MAX_BYTES = 35_000  # section 6.1


@dataclass(frozen=True, slots=True)
class Opening:
    """What has been said so far."""

    # by the server: its identification line and its SSH_MSG_KEXINIT packet
    heard: bytes
    # by us: our identification line
    said: bytes = f"{IDENTITY}\r\n".encode()

    def resume(self, sock: socket.socket) -> "Resumed":
        """`sock`, whose other end stands after the opening, as if nothing had been said."""
        return Resumed(sock, self)


def hold(sock: socket.socket) -> Opening:
    """Hold the opening on a fresh connection, where the server's line comes first."""
    said = Opening(b"").said
    try:
        line = _exactly(sock, 1)
        while not line.endswith(b"\n"):
            if len(line) > _LINE_MAX_BYTES:
                raise MachineLostError(f"no ssh server there: {line[:32]!r}")
            line += _exactly(sock, 1)
        sock.sendall(said)
        length = _exactly(sock, 4)
        size = int.from_bytes(length, "big")
        if size > _PACKET_MAX_BYTES:
            raise MachineLostError(f"the ssh server's first packet has {size} bytes")
        return Opening(line + length + _exactly(sock, size), said)
    except OSError as error:
        raise MachineLostError(f"the ssh conversation did not begin: {error}") from error


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise MachineLostError("the ssh conversation ended at its beginning")
        data += piece
    return data


class Resumed(socket.socket):
    """A socket on which the opening seems still to come. Takes over `sock`'s descriptor."""

    def __init__(self, sock: socket.socket, opening: Opening) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self._heard = opening.heard
        self._said = opening.said

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As socket.recv(), first what was heard."""
        if self._heard:
            piece, self._heard = self._heard[:size], self._heard[size:]
            return piece
        return super().recv(size, flags)

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        """As socket.send(), but for what was said already."""
        if self._said:
            held = len(self._said)
            if not self._said.startswith(data[:held]):
                raise OSError("the ssh client begins otherwise than it did")
            self._said = self._said[len(data) :]
            return min(len(data), held)
        return super().send(data, flags)
