# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""QEMU's control socket: commands, and moving a guest's state out and in.

docs/interop/qmp-spec.rst and qapi/migration.json of QEMU. The socket is in the guest's run
directory; one client at a time.
"""

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.errors import WorldError
from harness.target.deadline import Deadline

SOCKET = "qmp"
_POLL_S = 0.005
# "as fast as it goes": the default is a network's 128 MiB/s
_BANDWIDTH = 1 << 40


class Monitor:
    """A conversation with one QEMU. WorldError for everything that goes wrong in it."""

    def __init__(self, run_dir: Path, deadline: Deadline) -> None:
        self._deadline = deadline
        self._sock = socket.socket(socket.AF_UNIX)
        try:
            self._sock.settimeout(max(deadline.left_s(), 0.01))
            self._sock.connect(str(run_dir / SOCKET))
            self._lines = self._sock.makefile("rb")
            self._read()  # the greeting
            self.command("qmp_capabilities")
        except OSError as error:
            self._sock.close()
            raise WorldError(f"QEMU's control socket: {error}") from error
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._sock.close()

    def command(self, name: str, *descriptors: int, **arguments: Any) -> Any:
        """Result of one command; open files go along with it."""
        request = json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n"
        try:
            if descriptors:
                socket.send_fds(self._sock, [request], descriptors)
            else:
                self._sock.sendall(request)
            while True:
                answer = self._read()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise WorldError(f"QEMU refuses {name}: {answer['error'].get('desc')}")
        except (OSError, ValueError) as error:
            raise WorldError(f"QEMU did not answer {name}: {error}") from error

    def _read(self) -> dict[str, Any]:
        self._sock.settimeout(max(self._deadline.left_s(), 0.01))
        line = self._lines.readline()
        if not line:
            raise WorldError("QEMU ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def connected(self, port: str) -> bool:
        """Whether QEMU has taken the host's connection to a port."""
        return not str(self._chardev(port)["filename"]).startswith("disconnected")

    def open_in_guest(self, port: str) -> bool:
        """Whether a program in the guest has the port open."""
        return bool(self._chardev(port)["frontend-open"])

    def _chardev(self, label: str) -> dict[str, Any]:
        return next(c for c in self.command("query-chardev") if c["label"] == label)

    def save(self, target: Path) -> None:
        """Write the guest's whole state to a file; the guest goes on afterwards.

        The path must need no quoting in a shell: QEMU's only way to a file.
        """
        self.command("migrate-set-parameters", **{"max-bandwidth": _BANDWIDTH})
        self.command("migrate", uri=f"exec:cat > {target}")
        try:
            self._moved()
        finally:
            self.command("cont")

    def _moved(self) -> None:
        while True:
            seen = self.command("query-migrate")
            if seen.get("status") == "completed":
                return
            if seen.get("status") in ("failed", "cancelled"):
                why = seen.get("error-desc", "QEMU does not say why")
                raise WorldError(f"the guest's state could not be written: {why}")
            if self._deadline.over:
                self.command("migrate_cancel")
                raise WorldError("writing the guest's state took too long")
            time.sleep(_POLL_S)

    def restore(self, source: Path) -> None:
        """Begin to read a state; the guest starts by itself."""
        try:
            with source.open("rb") as state:
                self.command("getfd", state.fileno(), fdname="state")
        except OSError as error:
            raise WorldError(f"the guest's state: {error}") from error
        self.command("migrate-incoming", uri="fd:state")
