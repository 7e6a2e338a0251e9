# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which accelerator really runs a guest here: decided by booting one, remembered per host.

A /dev/kvm that opens proves nothing: QEMU may abort over it, or spin for ever. Owns the probe and
its memory; how the harness's own guests are started is harness/target/vm.py's business.
"""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import tools
from harness.errors import MachineLostError
from harness.paths import cache_dir, locked, make_dir, replace_file

_KVM = Path("/dev/kvm")
_TOKEN = b"bpfthrow-probe: the guest is up"
# busybox alone: no disk, no modules. poweroff ends QEMU because of -no-reboot and ACPI.
_INIT = b"#!/bin/busybox sh\n/bin/busybox echo '%s'\n/bin/busybox poweroff -f\n" % _TOKEN
# Seconds: a working KVM needs 1, emulation 3 to 9 on two busy cores.
_DEADLINES_S = {"kvm": 15.0, "tcg": 120.0}
# QEMU's -cpu; its default, qemu64, once panicked while booting. Emulated, "rep movsb" goes byte by
# byte: without erms the kernel copies and clears by words. Without la57 a page walk is shorter.
CPUS = {"kvm": "host", "tcg": "max,-erms,-la57"}
# QEMU says so and then spins.
_HOPELESS = "KVM internal error"


@dataclass(frozen=True, slots=True)
class Accel:
    """The verdict on this host."""

    # "kvm" or "tcg"
    name: str
    # why it is this one
    reason: str
    # from starting QEMU to the first program in the guest
    boot_s: float


@dataclass(frozen=True, slots=True)
class _Boot:
    seconds: float
    # None: the token came
    failure: str | None
    console: str


def _host_key(qemu: Path) -> str:
    kvm = _KVM.stat() if _KVM.exists() else None
    machine_id = Path("/etc/machine-id")
    facts = (
        platform.node(),
        machine_id.read_text() if machine_id.is_file() else "",
        platform.release(),
        str(qemu),
        qemu.stat().st_mtime_ns,
        qemu.stat().st_size,
        (kvm.st_rdev, kvm.st_mode, kvm.st_gid, os.access(_KVM, os.R_OK | os.W_OK)) if kvm else None,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _kvm_opens() -> str | None:
    """None when /dev/kvm can be opened, else why not."""
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{_KVM}: {error.strerror}"
    return None


def _initramfs(busybox: Path) -> bytes:
    # not needed, and slow to import, where the verdict is remembered
    from harness.target.initramfs import Entry, pack  # noqa: PLC0415

    return pack(
        [
            Entry("bin", 0o040755),
            Entry("dev", 0o040755),
            Entry("dev/console", 0o020600, device=(5, 1)),
            Entry("bin/busybox", 0o100755, busybox.read_bytes()),
            Entry("init", 0o100755, _INIT),
        ]
    )


def _command(qemu: Path, name: str, image: Path, scratch: Path) -> list[str]:
    # fmt: off
    return [
        # QEMU dies with us, whatever ends us
        *([path, "--pdeathsig", "KILL", "--"] if (path := tools.find("setpriv")) else []),
        str(qemu), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", f"q35,accel={name}", "-cpu", CPUS[name], "-smp", "1", "-m", "256M",
        "-serial", f"file:{scratch}/console",
        "-kernel", str(image), "-initrd", f"{scratch}/initramfs",
        "-append", "console=ttyS0 panic=-1 oops=panic loglevel=4",
    ]
    # fmt: on


@contextmanager
def _process(argv: list[str], stderr: Path) -> Iterator[subprocess.Popen[bytes]]:
    with stderr.open("wb") as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def words_of(stderr: str) -> str:
    """The line of QEMU's standard error that says what went wrong; "" when it said nothing."""
    lines = [line.removeprefix("qemu-system-x86_64: ") for line in stderr.splitlines() if line]
    telling = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
    return (telling or lines or [""])[0].strip().removeprefix("error: ")


def boot(qemu: Path, name: str, image: Path, busybox: Path, deadline_s: float) -> _Boot:
    """Boot a tiny guest once. Never leaves QEMU or a file behind."""
    with tempfile.TemporaryDirectory(prefix="bpfthrow-probe-") as directory:
        scratch = Path(directory)
        (scratch / "initramfs").write_bytes(_initramfs(busybox))
        console, stderr = scratch / "console", scratch / "stderr"
        console.touch()
        begin_s = time.monotonic()
        failure: str | None = f"no sign of life from the guest in {deadline_s:.0f} s"
        with _process(_command(qemu, name, image, scratch), stderr) as process:
            while (seconds := time.monotonic() - begin_s) < deadline_s:
                ended = process.poll() is not None  # before reading: its last words count
                if _TOKEN in console.read_bytes():
                    failure = None
                    break
                said = stderr.read_text(errors="replace")
                if ended or _HOPELESS in said:
                    failure = words_of(said) or f"QEMU ended with {process.returncode}, no guest"
                    break
                time.sleep(0.02)
        return _Boot(seconds, failure, console.read_text(errors="replace"))


def decide(qemu: Path, image: Path, busybox: Path) -> Accel:
    """Try KVM where it opens, then emulation; MachineLostError where neither runs a guest."""
    reason = _kvm_opens()
    if reason is None:
        tools.say("probing KVM with a small guest (once on this host)")
        tried = boot(qemu, "kvm", image, busybox, _DEADLINES_S["kvm"])
        if tried.failure is None:
            return Accel("kvm", "a probe guest ran under KVM", round(tried.seconds, 3))
        reason = f"KVM probe failed: {tried.failure}"
    tools.say(f"{reason}; probing emulation (once on this host)")
    tried = boot(qemu, "tcg", image, busybox, _DEADLINES_S["tcg"])
    if tried.failure is None:
        return Accel("tcg", reason, round(tried.seconds, 3))
    raise MachineLostError(
        f"no guest runs on this machine: {reason}; emulation failed too: {tried.failure}",
        fix="bpfthrow doctor; look at the console below",
        evidence=tried.console,
    )


def _memory() -> tuple[Path, Path]:
    qemu = Path(tools.need("qemu-system-x86_64")).resolve()
    return qemu, cache_dir() / "accel" / f"{_host_key(qemu)}.json"


def remembered() -> Accel | None:
    """The verdict of an earlier probe on this host, QEMU and kernel."""
    try:
        return Accel(**json.loads(_memory()[1].read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _some_image() -> Path:
    # the catalogue is only needed where nothing is remembered
    from harness.kernels import catalogue, resolve, store  # noqa: PLC0415

    known = catalogue.load()
    kernel = store.newest_cached(known, known.default) or next(store.cached(known), None)
    return (kernel or resolve("default")).image


def probe(*, refresh: bool = False) -> Accel:
    """The accelerator for this host; boots a guest unless the answer is remembered.

    Fetches the default kernel when none is in the cache. WorldError where no guest runs.
    """
    found = None if refresh else remembered()
    if found is not None:
        return found
    image = _some_image()
    with locked("accel"):
        found = None if refresh else remembered()
        if found is None:
            qemu, memory = _memory()
            found = decide(qemu, image, Path(tools.need("busybox")))
            make_dir(memory.parent)
            replace_file(memory, json.dumps(asdict(found), indent=1).encode())
    return found
