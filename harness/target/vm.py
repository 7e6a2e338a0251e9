# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One guest: boots it with virtme-run, connects to it, ends it.

Owns the argument list, the run directory (keys, sockets, console) and the end of the guest.
Knows nothing of cases. The way in is a virtio-serial port with sshd behind it, as a unix socket in
a private directory: no port to collide on, nothing that listens on a network.
"""

import io
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from harness import tools
from harness.errors import MachineLostError
from harness.target import guests, initramfs, keeper
from harness.target.deadline import Deadline

if TYPE_CHECKING:
    import paramiko

    from harness.target.channel import Login

# Ports with an sshd behind: the first for the harness, the second for `bpfthrow vm ssh`.
PORTS = ("ssh0", "ssh1")
# Deadlines are for a guest that boots in this time (software emulation, idle machine); a slower
# one gets proportionally more.
NOMINAL_BOOT_S = 5.0
BOOT_TIMEOUT_S = 120.0
_POLL_S = 0.02
_BANNER = b"SSH-2.0"
_FORGET_MAX_BYTES = 1 << 20
_PANIC = re.compile(r"Kernel panic - not syncing: .*|Oops: .*|bpfthrow-init: (?!the guest).*")
_SCALE_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What a guest is made of. Two guests with the same recipe are interchangeable."""

    name: str
    release: str
    kernel: Path
    modules: Path | None
    root: Path
    root_hash: str
    cpus: int = 1
    memory_mib: int = 512
    accelerator: str = "tcg"


@dataclass(slots=True)
class Guest:
    """A running guest. stop() ends it; one that is not detached also ends with this process."""

    machine: Machine
    run_dir: Path
    keeper: subprocess.Popen[bytes] | None
    # keeper of a guest that this process started and that lives on its own
    process: subprocess.Popen[bytes] | None = None
    # 0.0 until the first login; a guest that was found running brings its own
    boot_s: float = 0.0
    # time.monotonic() of the start
    started_s: float = field(default_factory=time.monotonic)
    transport: "paramiko.Transport | None" = None
    # held while this process uses a guest that it did not start
    lock: IO[str] | None = None

    @property
    def console(self) -> Path:
        """File with everything that the kernel printed, from the first line on."""
        return self.run_dir / "console.log"

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

    def disconnect(self) -> None:
        """Close the connection; a detached guest lives on."""
        if self.transport is not None:
            self.transport.close()
            self.transport = None
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def release(self) -> None:
        """End a guest of ours; leave one that lives on its own as it is."""
        if self.keeper is None and self.alive():
            self.disconnect()
            if self.process is not None:
                self.process.returncode = 0  # not ours to wait for any more
        else:
            self.stop()

    def stop(self) -> None:
        """Disconnect and end the guest; its directory is removed. May be called twice."""
        self.disconnect()
        if self.keeper is not None:
            assert self.keeper.stdin is not None
            self.keeper.stdin.close()
            self.keeper.wait()
            self.keeper = None
        else:
            guests.end_detached(self.run_dir)
            if self.process is not None:
                self.process.wait()


def start(machine: Machine, *, detached: bool = False, name: str = "") -> Guest:
    """Start a guest and return at once; connect() waits for it. UsageError where programs lack."""
    guests.reap()
    prefix = f"{name or 'run'}-"
    run_dir = Path(tempfile.mkdtemp(prefix=prefix, dir=guests.runtime_dir()))
    argv = [sys.executable, "-I", "-S", keeper.__file__, str(run_dir)]
    argv += ["--detached"] if detached else []
    try:
        # first of all, so that whatever happens from here on, somebody cleans up
        process = subprocess.Popen(
            [*argv, "--", *virtme_argv(machine, run_dir)],
            stdin=subprocess.PIPE,
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
        _write_keys_and_initramfs(run_dir, machine)
        _write_wrapper(run_dir)
        guests.write_note(run_dir, _note(machine, label=name, detached=detached))
        process.stdin.write(b"go\n")
        process.stdin.flush()
    except BrokenPipeError as error:
        process.wait()
        raise MachineLostError(f"the guest's keeper ended with {process.returncode}") from error
    except BaseException:
        process.stdin.close()
        process.wait()
        raise
    if detached:
        process.stdin.close()
        return Guest(machine, run_dir, None, process)
    return Guest(machine, run_dir, process)


def connect(guest: Guest, timeout_s: float = BOOT_TIMEOUT_S, port: str = PORTS[0]) -> None:
    """Wait for the guest's sshd and log in; measures the boot.

    MachineLostError with the console as evidence when the guest panics, ends or stays silent.
    """
    # here, because guests are started before there is time to import paramiko
    from harness.target import channel  # noqa: PLC0415

    deadline = Deadline(timeout_s)
    try:
        sock = _open_port(guest, port, deadline)
        try:
            _wait_for_banner(guest, sock, deadline)
            guest.transport = channel.connect(sock, read_login(guest.run_dir), deadline)
        except BaseException:
            sock.close()
            raise
    except MachineLostError as error:
        if guest.boot_s:
            raise MachineLostError(
                f"no way into the running guest of {guest.machine.release}: {error.message}",
                fix="bpfthrow vm down, then bpfthrow vm up",
            ) from error
        raise _boot_failure(guest, error) from error
    if not guest.boot_s:
        guest.boot_s = time.monotonic() - guest.started_s
        note = json.loads((guest.run_dir / "machine.json").read_text())
        guests.write_note(guest.run_dir, note | {"boot_s": guest.boot_s})


def virtme_argv(machine: Machine, run_dir: Path) -> list[str]:
    """The whole command line. virtme-run adds no initramfs of its own (--mods none), so ours is the
    one that QEMU gets, and its /init the first process; the 9p export of virtme's guest tools is
    never mounted, which leaves the guest free to be saved.
    """
    accelerator = [] if machine.accelerator == "kvm" else ["--disable-kvm"]
    # fmt: off
    return [
        _virtme_run(),
        "--qemu-bin", str(run_dir / "qemu"),
        "--kimg", str(machine.kernel), "--mods", "none",
        "--root-disk", str(machine.root),
        *accelerator, "--force-9p", "--disable-microvm", "--disable-monitor",
        "--memory", f"{machine.memory_mib}M", "--cpus", str(machine.cpus),
        # a panic or oops ends QEMU, and the console says why
        "--kopt", "panic=-1", "--kopt", "oops=panic",
        "--kopt", "loglevel=7", "--kopt", "console=ttyS1,115200",
        # self-tests of ciphers that nobody uses here are half a second of the boot under emulation;
        # audit records of every load would only fill the log
        "--kopt", "cryptomgr.notests", "--kopt", "audit=0",
        "--qemu-opts",
        "-no-reboot", "-serial", f"file:{run_dir}/console.log",
        "-initrd", f"{run_dir}/initramfs",
        "-device", "virtio-serial-pci,id=bpfthrow",
        *(arg for nr, port in enumerate(PORTS, 11) for arg in _port_argv(run_dir, port, nr)),
    ]
    # fmt: on


def _port_argv(run_dir: Path, port: str, number: int) -> list[str]:
    return [
        "-chardev",
        f"socket,id={port},path={run_dir}/{port},server=on,wait=off",
        "-device",
        f"virtserialport,bus=bpfthrow.0,nr={number},chardev={port},name=bpfthrow.{port}",
    ]


def _virtme_run() -> str:
    beside_python = Path(sys.executable).with_name("virtme-run")
    return str(beside_python) if beside_python.exists() else tools.need("virtme-run")


def _write_wrapper(run_dir: Path) -> None:
    # QEMU dies with virtme-run, which dies with the keeper.
    qemu = tools.need("qemu-system-x86_64")
    wrapper = run_dir / "qemu"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig KILL -- {shlex.quote(qemu)} "$@"\n')
    wrapper.chmod(0o700)


def _write_keys_and_initramfs(run_dir: Path, machine: Machine) -> None:
    host, user = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    for name, key in (("host_key", host), ("user_key", user)):
        path = run_dir / name
        path.touch(mode=0o600)
        path.write_bytes(_private_text(key))
    secrets = {"host_key": _private_text(host), "authorized_keys": _public_text(user)}
    common = initramfs.common_part(machine.modules)
    initramfs.write_initramfs(run_dir / "initramfs", common, secrets)


def _private_text(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def _public_text(key: ed25519.Ed25519PrivateKey) -> bytes:
    encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(encoding, form) + b"\n"


def read_login(run_dir: Path) -> "Login":
    """Keys of the guest in `run_dir`. MachineLostError when they are gone."""
    import paramiko  # noqa: PLC0415  # see connect()

    from harness.target.channel import Login  # noqa: PLC0415

    try:
        texts = [(run_dir / name).read_text() for name in ("user_key", "host_key")]
        user, host = (paramiko.Ed25519Key.from_private_key(io.StringIO(text)) for text in texts)
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise MachineLostError(f"the guest's keys are gone or damaged: {error}") from error
    return Login("root", user, host)


def _open_port(guest: Guest, port: str, deadline: Deadline) -> socket.socket:
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(guest.run_dir / port))
            return sock
        except OSError:
            sock.close()
        _require_life(guest, deadline)
        time.sleep(_POLL_S)


def _wait_for_banner(guest: Guest, sock: socket.socket, deadline: Deadline) -> None:
    # QEMU accepts before the guest is up; paramiko would give up on the missing banner. A port that
    # was in use may still hold the end of the last conversation: it is read and forgotten.
    forgotten = 0
    while True:
        sock.settimeout(min(0.5, deadline.left_s() or 0.01))
        try:
            seen = sock.recv(4096, socket.MSG_PEEK)
        except TimeoutError:
            _require_life(guest, deadline)
            continue
        except OSError as error:
            raise MachineLostError(f"the port was closed: {error}") from error
        if not seen:
            raise MachineLostError("QEMU ended")
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
            _require_life(guest, deadline)


def _require_life(guest: Guest, deadline: Deadline) -> None:
    if deadline.over:
        raise MachineLostError(f"no ssh after {deadline.seconds:.0f} s")
    if guest.keeper is not None and guest.keeper.poll() is not None:
        raise MachineLostError(f"the guest's keeper ended with code {guest.keeper.returncode}")
    if not guest.run_dir.is_dir():
        raise MachineLostError("the guest's directory is gone")
    if (guest.run_dir / "exited").exists():
        raise MachineLostError("QEMU ended")


def _boot_failure(guest: Guest, error: MachineLostError) -> MachineLostError:
    console = guest.console_text()
    said = _PANIC.search(console)
    words = guests.read_text(guest.run_dir / "virtme.err").strip().splitlines()
    reason = said[0] if said else error.message
    if not said and not console and words:
        reason = f"{reason}: {words[-1]}"
    return MachineLostError(
        f"{guest.machine.release} did not boot: {reason}",
        fix=_boot_fix(guest.machine, console),
        evidence="\n".join([*words, *console.splitlines()[-60:]]),
    )


def _boot_fix(machine: Machine, console: str) -> str:
    if not console:
        return f"is {machine.kernel} whole, and for x86-64? It said nothing"
    needs = "VIRTIO_PCI, VIRTIO_BLK, VIRTIO_CONSOLE, EROFS_FS, BLK_DEV_INITRD and DEVTMPFS"
    if machine.modules is None:
        return (
            f"no modules were found for {machine.kernel}: name the image where they are beside it,"
            f" or tree:PATH, or one with {needs} built in"
        )
    return f"read the console; a kernel for guests needs {needs}"


def recipe(machine: Machine) -> dict[str, object]:
    """What must be equal for one guest to serve in place of another; plain JSON."""
    info = machine.kernel.stat()
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(machine).items()}
    common = initramfs.common_part(machine.modules).stem
    return plain | {"image": [info.st_size, info.st_mtime_ns], "initramfs": common}


def _note(machine: Machine, *, label: str, detached: bool) -> dict[str, object]:
    note = {"label": label, "detached": detached, "recipe": recipe(machine)}
    return note | {"started": time.time(), "boot_s": 0.0}
