# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The command line of a guest's first boot, and the files that it needs in its run directory.

virtme-run makes QEMU's arguments; a wrapper in place of QEMU keeps a copy of them, from which a
saved guest is restored.
"""

import shlex
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness import accel, tools
from harness.target import guests, initramfs, qmp
from harness.target.machine import PORTS, Machine


def virtme_argv(machine: Machine, run_dir: Path) -> list[str]:
    """The whole command line. virtme-run adds no initramfs of its own (--mods none), so ours is the
    one that QEMU gets, and its /init the first process; the 9p export of virtme's guest tools is
    never mounted, which leaves the guest free to be saved.
    """
    kvm = machine.accelerator == "kvm"
    # fmt: off
    return [
        tools.own("virtme-run"),
        "--qemu-bin", str(run_dir / "qemu"),
        "--kimg", str(machine.kernel), "--mods", "none",
        "--root-disk", str(machine.root),
        *([] if kvm else ["--disable-kvm"]), "--force-9p", "--disable-microvm", "--disable-monitor",
        "--memory", f"{machine.memory_mib}M", "--cpus", str(machine.cpus),
        # a panic or oops ends QEMU, and the console says why
        "--kopt", "panic=-1", "--kopt", "oops=panic",
        # a hung guest is interrupted, and then ends with the stack it was in
        "--kopt", "unknown_nmi_panic",
        "--kopt", "loglevel=7", "--kopt", "console=ttyS1,115200",
        # self-tests of ciphers that nobody uses here are half a second of the boot under emulation;
        # audit records of every load would only fill the log
        "--kopt", "cryptomgr.notests", "--kopt", "audit=0",
        "--qemu-opts",
        # after virtme's own: QEMU takes the last
        *([] if kvm else ["-cpu", accel.CPUS["tcg"]]),
        "-no-reboot", "-serial", f"file:{run_dir}/{guests.CONSOLE}",
        "-qmp", f"unix:{run_dir}/{qmp.SOCKET},server=on,wait=off",
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


def write_wrapper(run_dir: Path) -> None:
    """Write the program that virtme-run starts as QEMU; it leaves its arguments in "argv"."""
    # QEMU dies with virtme-run, which dies with the keeper.
    qemu = shlex.quote(tools.need("qemu-system-x86_64"))
    wrapper = run_dir / "qemu"
    wrapper.write_text(
        f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {run_dir}/argv\n"
        f'exec setpriv --pdeathsig KILL -- {qemu} "$@"\n'
    )
    wrapper.chmod(0o700)


def write_keys_and_initramfs(run_dir: Path, machine: Machine) -> None:
    """Make this guest's keys, and the initramfs that carries them in."""
    # P-256 is assembler in the guest's OpenSSL, and ed25519 portable C in its sshd: a third of the
    # time of a login under emulation
    host, user = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    for name, key in (("host_key", host), ("user_key", user)):
        path = run_dir / name
        path.touch(mode=0o600)
        path.write_bytes(_private_text(key))
    secrets = {"host_key": _private_text(host), "authorized_keys": _public_text(user)}
    common = initramfs.common_part(machine.modules)
    initramfs.write_initramfs(run_dir / "initramfs", common, secrets)


def _private_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def _public_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(encoding, form) + b"\n"
