# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Verifier logs of level 2 from a guest: bpftool -d loads an object and prints all of them."""

from pathlib import Path

from harness.bpf.writeelf import write_object
from harness.target.channel import Files
from harness.verify import kernel_log

_PLACE = "/run/verifier-logs"
_PINS = "/sys/fs/bpf/verifier-logs"
_TIMEOUT_S = 120.0


def logs_of(target, objects):
    """Object -> program -> harness.verify.kernel_log.Log, of the accepted programs.

    `target`: harness.target.virtual.VirtualTarget; `objects`: paths here.
    """
    names = {f"{number}-{Path(path).name}": path for number, path in enumerate(objects)}
    Files(target.transport).push({f"{_PLACE}/{name}": Path(path) for name, path in names.items()})
    return {path: _load(target, f"{_PLACE}/{name}") for name, path in names.items()}


def logs_of_programs(target, programs):
    """Log of each harness.bpf.program.Program that the kernel accepts, by its name."""
    Files(target.transport).push({f"{_PLACE}/{p.name}.o": write_object(p) for p in programs})
    found = {}
    for program in programs:
        found |= _load(target, f"{_PLACE}/{program.name}.o")
    return found


def _load(target, remote):
    command = f"bpftool -d prog loadall {remote} {_PINS} 2>&1; rm -rf {_PINS}"
    channel = target.transport.open_session()
    try:
        channel.settimeout(_TIMEOUT_S)
        channel.exec_command(command)
        pieces = iter(lambda: channel.recv(1 << 16), b"")
        text = b"".join(pieces).decode(errors="replace")
    finally:
        channel.close()
    return {name: kernel_log.parse(log) for name, log in kernel_log.programs(text).items()}
