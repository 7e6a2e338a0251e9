# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From a guest that was started to a connection: port, banner, keys, and why there is none.

The way in is a virtio-serial port with sshd behind it, as a unix socket in a private directory: no
port to collide on, nothing that listens on a network.
"""

import io
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import MachineLostError
from harness.target import guests
from harness.target.console import reason as reason_in
from harness.target.deadline import Deadline
from harness.target.machine import Machine
from harness.target.rootimage import root_anew

if TYPE_CHECKING:
    from harness.target.channel import Login
    from harness.target.vm import Guest

_POLL_S = 0.02
_BANNER = b"SSH-2.0"
_FORGET_MAX_BYTES = 1 << 20
_CONSOLE_LINES = 80
# with less, distributions' kernels do not reach their first process
_MEMORY_MIB = 128
# Of the disk with the guest root, or of the sshd on it; a kernel that has no erofs says none of it.
_BAD_ROOT = re.compile(
    r"erofs:? \(device vda\): .*(?:valid erofs superblock|bogus|corrupt|invalid)"
    r"|I/O error, dev vda|\bvda: .*beyond end of device|: Structure needs cleaning$"
    r"|^bpfthrow-init: sshd: ",
    re.MULTILINE | re.IGNORECASE,
)


class EndedError(MachineLostError):
    """A guest ended while it was waited for, and nobody said why: it may have been killed."""


def read_login(run_dir: Path) -> "Login":
    """Keys of the guest in `run_dir`. MachineLostError when they are gone."""
    import paramiko  # noqa: PLC0415  # see connect()

    from harness.target.channel import Login  # noqa: PLC0415

    try:
        texts = [(run_dir / name).read_text() for name in ("user_key", "host_key")]
        user, host = (paramiko.ECDSAKey.from_private_key(io.StringIO(text)) for text in texts)
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise MachineLostError(f"the guest's keys are gone or damaged: {error}") from error
    return Login("root", user, host)


def open_port(guest: "Guest", port: str, deadline: Deadline) -> socket.socket:
    """Connect to a port of the guest; QEMU makes it soon after its start. MachineLostError."""
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(guest.run_dir / port))
            return sock
        except OSError:
            sock.close()
        require_life(guest, deadline)
        time.sleep(_POLL_S)


def wait_for_banner(guest: "Guest", sock: socket.socket, deadline: Deadline) -> None:
    """Wait until the first thing to be read is sshd's identification. MachineLostError."""
    # QEMU accepts before the guest is up; paramiko would give up on the missing banner. A port that
    # was in use may still hold the end of the last conversation: it is read and forgotten.
    forgotten = 0
    while True:
        sock.settimeout(min(0.5, deadline.left_s() or 0.01))
        try:
            seen = sock.recv(4096, socket.MSG_PEEK)
        except TimeoutError:
            require_life(guest, deadline)
            _require_root(guest)
            continue
        except OSError as error:
            raise MachineLostError(f"the port was closed: {error}") from error
        if not seen:
            raise EndedError("QEMU ended")
        at = seen.find(_BANNER)
        if at == 0:
            sock.settimeout(None)
            return
        if forgotten > _FORGET_MAX_BYTES:
            raise MachineLostError(f"the port speaks something else than ssh: {seen[:16]!r}")
        # up to the banner, or all but what may be its beginning
        useless = at if at > 0 else max(0, len(seen) - len(_BANNER) + 1)
        if useless:
            forgotten += len(sock.recv(useless))
        else:
            time.sleep(_POLL_S)
            require_life(guest, deadline)


def require_life(guest: "Guest", deadline: Deadline) -> None:
    """MachineLostError when the guest has ended or the deadline has passed."""
    if deadline.over:
        raise MachineLostError(f"no ssh after {deadline.seconds:.0f} s")
    if guest.keeper is not None and guest.keeper.poll() is not None:
        raise EndedError(f"the guest's keeper ended with code {guest.keeper.returncode}")
    if not guest.run_dir.is_dir():
        raise EndedError("the guest's directory is gone")
    if (guest.run_dir / "exited").exists():
        raise EndedError("QEMU ended")


def _require_root(guest: "Guest") -> None:
    # of a guest that has been up, it would be old news
    if not guest.boot_s and _BAD_ROOT.search(guest.console_text()):
        raise MachineLostError("the guest root cannot be read")


def _words(guest: "Guest") -> list[str]:
    return guests.read_text(guest.run_dir / "virtme.err").strip().splitlines()


def last_words(guest: "Guest") -> str:
    """What QEMU said last; "" while it runs or said nothing."""
    return (_words(guest) or [""])[-1] if (guest.run_dir / "exited").exists() else ""


def boot_failure(guest: "Guest", error: MachineLostError) -> MachineLostError:
    """`error` of a first connection, with the console's reason and what to do."""
    console = guest.console_text()
    said = reason_in(console)
    words = _words(guest)
    reason = said or error.message
    if not said and not console and words:
        reason = f"{reason}: {words[-1]}"
    if not said and not _BAD_ROOT.search(console) and guest.alive():
        from harness.target import postmortem  # noqa: PLC0415  # reads rules that few boots need

        stack = " < ".join(postmortem.interrupted_in(postmortem.interrupt(guest)))
        reason += f"; interrupted in {stack}" if stack else ""
        console = guest.console_text()
    unsaid = isinstance(error, EndedError) and not said and not words
    kind = EndedError if unsaid else MachineLostError
    return kind(
        f"{guest.machine.release} did not boot: {reason}",
        fix=_boot_fix(guest.machine, console, words),
        evidence="\n".join([*words, *console.splitlines()[-_CONSOLE_LINES:]]),
    )


def _boot_fix(machine: Machine, console: str, words: list[str]) -> str:
    if machine.memory_mib < _MEMORY_MIB:
        return f"give it more memory than {machine.memory_mib} MiB: --memory 512"
    if _BAD_ROOT.search(console):
        return root_anew(machine.root)
    if machine.accelerator == "kvm" and (not console or "kvm" in " ".join(words).lower()):
        return "--accelerator auto takes what works; bpfthrow doctor --refresh tries KVM again"
    if not console and words and "kernel" not in " ".join(words):
        return "bpfthrow doctor --refresh tries QEMU with a small guest"
    if not console:
        return f"is {machine.kernel} whole, and for x86-64? It said nothing"
    needs = "VIRTIO_PCI, VIRTIO_BLK, VIRTIO_CONSOLE, EROFS_FS, BLK_DEV_INITRD and DEVTMPFS"
    if machine.modules is None:
        return (
            f"no modules were found for {machine.kernel}: name the image where they are beside it,"
            f" or tree:PATH, or one with {needs} built in"
        )
    return f"read the console; a kernel for guests needs {needs}"
