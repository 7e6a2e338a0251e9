# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a guest is made of, and when one can serve in place of another.

Values only: booting, connecting and keeping guests is done elsewhere.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from harness.target import initramfs

# Ports with an sshd behind: the first for the harness, the second for `bpfthrow vm ssh`.
PORTS = ("ssh0", "ssh1")


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
    # zipapp that the guest starts; no file for a guest that only people use
    agent: Path = Path()


def recipe(machine: Machine) -> dict[str, object]:
    """What must be equal for one guest to serve in place of another; plain JSON."""
    info = machine.kernel.stat()
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(machine).items()}
    common = initramfs.common_part(machine.modules).stem
    return plain | {"image": [info.st_size, info.st_mtime_ns], "initramfs": common}
