# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One guest: booted or restored, connected to, saved, ended.

Owns the run directory and the end of the guest. Knows nothing of cases.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness import tools
from harness.errors import BpfthrowError, MachineLostError, WorldError
from harness.target import guests, keeper, login, qmp, saved, virtme
from harness.target.deadline import Deadline
from harness.target.machine import PORTS, Machine, recipe
from harness.target.opening import hold
from harness.target.saved import Saved

if TYPE_CHECKING:
    import paramiko

# Deadlines are for a guest that boots in this time (software emulation, idle machine); a slower
# one gets proportionally more.
NOMINAL_BOOT_S = 5.0
BOOT_TIMEOUT_S = 120.0
RESTORE_TIMEOUT_S = 10.0
SAVE_TIMEOUT_S = 30.0
_SCALE_MAX = 10.0
# for the guest's sshd to notice that its client is gone
_HANG_UP_S = 5.0
_POLL_S = 0.02


@dataclass(slots=True)
class Guest:
    """A running guest. stop() ends it; one of ours that was not released ends with this process."""

    machine: Machine
    run_dir: Path
    # of a guest of ours; None once it lives on its own
    keeper: subprocess.Popen[bytes] | None
    # whether release() lets it live on
    stays: bool = False
    # 0.0 until the first login; a guest that was found running or saved brings its own
    boot_s: float = 0.0
    # whether its agent listens
    prepared: bool = False
    # what it was restored from
    state: Saved | None = None
    # of a restored guest: the port, connected, until connect() goes on with the conversation
    line: socket.socket | None = None
    # time.monotonic() of the start
    started_s: float = field(default_factory=time.monotonic)
    transport: "paramiko.Transport | None" = None
    # held while this process uses a guest that it did not start
    lock: IO[str] | None = None

    @property
    def console(self) -> Path:
        """File with everything that the kernel printed since the boot or the restoration."""
        return self.run_dir / guests.CONSOLE

    def console_text(self) -> str:
        """The console so far; empty where nothing was printed or the guest is gone."""
        try:
            return self.console.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def scale(self) -> float:
        """Factor for every deadline: how much slower than nominal this guest booted."""
        return min(_SCALE_MAX, max(1.0, self.boot_s / NOMINAL_BOOT_S))

    def alive(self) -> bool:
        """Whether QEMU still runs (it ends with the guest's panic)."""
        return guests.qemu_pid(self.run_dir) is not None

    def note(self, **fields: object) -> None:
        """Change what detached() says of this guest."""
        path = self.run_dir / "machine.json"
        guests.write_note(self.run_dir, json.loads(path.read_text()) | fields)

    def hang_up(self) -> None:
        """Close the connection and wait until sshd has: who connects sooner finds the old one."""
        self._hear_out()
        self._close()
        deadline = Deadline(_HANG_UP_S * self.scale)
        with suppress(WorldError), qmp.Monitor(self.run_dir, deadline) as monitor:
            while monitor.open_in_guest(PORTS[0]) and not deadline.over:
                time.sleep(_POLL_S)

    def _hear_out(self) -> None:
        # sshd that is left with words for nobody tries for ever, and takes the guest's whole CPU
        from harness.target import channel  # noqa: PLC0415  # see connect()

        if self.transport is not None:
            with channel.limited(self.transport, _HANG_UP_S * self.scale):
                self.transport.global_request("keepalive@openssh.com")

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()
            self.transport = None
        if self.line is not None:
            self.line.close()
            self.line = None

    def disconnect(self) -> None:
        """Close the connection; a detached guest lives on."""
        self._close()
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def release(self) -> bool:
        """Leave a guest that lives on its own, or is ready to; end every other one.

        Whether it lives on. May be called twice.
        """
        lives = self._may_stay() and self.alive()
        if lives and self.transport is not None:
            self.hang_up()
        if lives and self._handed_over():
            self.disconnect()
            return True
        self.stop()
        return False

    def _may_stay(self) -> bool:
        if self.keeper is None:
            return True
        assert self.keeper.stdin is not None
        # who aborts a run has closed it
        going = self.keeper.stdin.closed
        return self.stays and self.prepared and self.transport is not None and not going

    def _handed_over(self) -> bool:
        if self.keeper is None:
            return True
        assert self.keeper.stdin is not None
        try:
            # first found by others, then free of us: `vm list` shows every guest that is up
            self.note(detached=True)
            self.keeper.stdin.write(keeper.DETACH)
            self.keeper.stdin.close()
        except (OSError, ValueError):  # its keeper was killed; the run was aborted meanwhile
            return False
        self.keeper.returncode = 0  # not ours to wait for any more
        self.keeper = None
        return True

    def stop(self) -> None:
        """Disconnect and end the guest; its directory is removed. May be called twice."""
        self.disconnect()
        if self.keeper is not None:
            assert self.keeper.stdin is not None
            self.keeper.stdin.close()
            self.keeper.wait()
            self.keeper = None
            # the keeper has, unless it was killed
            shutil.rmtree(self.run_dir, ignore_errors=True)
        else:
            guests.end_detached(self.run_dir)


def start(machine: Machine, *, detached: bool = False, name: str = "") -> Guest:
    """Boot a guest and return at once; connect() waits for it. UsageError where programs lack."""
    run_dir = _run_dir(name)

    def furnish() -> None:
        virtme.write_keys_and_initramfs(run_dir, machine)
        virtme.write_wrapper(run_dir)

    argv = virtme.virtme_argv(machine, run_dir)
    return _keep(Guest(machine, run_dir, None), argv, furnish, detached=detached, name=name)


def restore(machine: Machine, state: Saved, *, detached: bool = False, name: str = "") -> Guest:
    """Restore a saved guest; returns while QEMU reads its memory. connect() waits for it.

    StateError when QEMU does not take it, or ends.
    """
    run_dir = _run_dir(name)
    guest = Guest(machine, run_dir, None, boot_s=state.boot_s, prepared=True, state=state)
    argv = state.argv_in(run_dir)
    _keep(guest, argv, lambda: state.furnish(run_dir), detached=detached, name=name)
    deadline = Deadline(RESTORE_TIMEOUT_S)
    try:
        # Connected before the state is read: a guest whose port was open finds it open.
        guest.line = login.open_port(guest, PORTS[0], deadline)
        with qmp.Monitor(run_dir, deadline) as monitor:
            while not monitor.connected(PORTS[0]):
                login.require_life(guest, deadline)
            monitor.restore(run_dir / saved.STATE)
    except WorldError as error:
        words = login.last_words(guest)
        guest.stop()
        message = f"{error.message}{words and ': '}{words}"
        raise saved.StateError(message, refused=bool(words)) from error
    except BaseException:
        guest.stop()
        raise
    return guest


def _run_dir(name: str) -> Path:
    guests.reap()
    return Path(tempfile.mkdtemp(prefix=f"{name or 'run'}-", dir=guests.runtime_dir()))


def _keep(
    guest: Guest, argv: list[str], furnish: Callable[[], None], *, detached: bool, name: str
) -> Guest:
    """Have a keeper run `argv` once the run directory is furnished."""
    run_dir = guest.run_dir
    command = [sys.executable, "-I", "-S", keeper.__file__, str(run_dir)]
    guest.stays = detached
    try:
        # first of all, so that whatever happens from here on, somebody cleans up
        process = subprocess.Popen(
            [*command, "--", *argv],
            stdin=subprocess.PIPE,
            bufsize=0,
            # one that outlives us must not hold a pipe that somebody reads to its end
            stdout=subprocess.DEVNULL if detached else None,
            stderr=subprocess.DEVNULL if detached else None,
            start_new_session=True,
        )
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    assert process.stdin is not None
    try:
        furnish()
        guests.write_note(run_dir, _note(guest, label=name))
        process.stdin.write(keeper.GO)
    except BrokenPipeError as error:
        process.wait()
        raise MachineLostError(f"the guest's keeper ended with {process.returncode}") from error
    except BaseException:
        process.stdin.close()
        process.wait()
        raise
    guest.keeper = process
    return guest


def _note(guest: Guest, *, label: str) -> dict[str, object]:
    return {
        "label": label,
        "detached": False,  # until it is released
        "recipe": recipe(guest.machine),
        "started": time.time(),
        "boot_s": guest.boot_s,
        "prepared": guest.prepared,
    }


def connect(guest: Guest, timeout_s: float = BOOT_TIMEOUT_S, port: str = PORTS[0]) -> None:
    """Wait for the guest's sshd and log in; measures the boot.

    MachineLostError with the console as evidence when the guest panics, ends or stays silent.
    """
    # here, because guests are started before there is time to import paramiko
    from harness.target import channel  # noqa: PLC0415

    deadline = Deadline(timeout_s)
    line, guest.line = guest.line, None
    try:
        if line is not None and guest.state is not None:
            sock: socket.socket = guest.state.opening.resume(line)
        else:
            sock = login.open_port(guest, port, deadline)
        try:
            if line is None:
                login.wait_for_banner(guest, sock, deadline)
            guest.transport = channel.connect(sock, login.read_login(guest.run_dir), deadline)
        except BaseException:
            sock.close()
            raise
    except MachineLostError as error:
        words = login.last_words(guest)
        if guest.state is not None:
            raise saved.StateError(words or error.message, refused=bool(words)) from error
        if guest.boot_s:
            raise MachineLostError(
                f"no way into the running guest of {guest.machine.release}: {error.message}"
                f"{words and ': '}{words}",
                fix="bpfthrow vm down, then bpfthrow vm up",
            ) from error
        raise login.boot_failure(guest, error) from error
    if not guest.boot_s:
        guest.boot_s = time.monotonic() - guest.started_s
        guest.note(boot_s=guest.boot_s)


def save(guest: Guest) -> None:
    """Save a guest that is connected and whose agent listens, and connect to it again.

    A guest that cannot be saved (said on stderr) works on. MachineLostError when it is lost.
    """
    from harness.target import channel  # noqa: PLC0415  # see connect()

    deadline = Deadline(SAVE_TIMEOUT_S * guest.scale)
    guest.hang_up()
    sock = login.open_port(guest, PORTS[0], deadline)
    try:
        login.wait_for_banner(guest, sock, deadline)
        sock.settimeout(deadline.left_s())
        opening = hold(sock)
        try:
            with qmp.Monitor(guest.run_dir, deadline) as monitor:
                saved.write(guest.machine, guest.run_dir, opening, guest.boot_s, monitor.save)
        except (BpfthrowError, OSError) as error:
            reason = getattr(error, "message", None) or str(error)
            tools.say(f"this guest was not saved, the next run boots again: {reason}")
        sock.settimeout(None)
        resumed = opening.resume(sock)
    except BaseException:
        sock.close()
        raise
    try:
        guest.transport = channel.connect(resumed, login.read_login(guest.run_dir), deadline)
    except BaseException:
        resumed.close()
        raise
