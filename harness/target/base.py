# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every target offers: facts about the machine, and a case in, an observation out.

Opens the right kind of target for a spec. The kinds are in virtual.py (a guest of ours) and
remote.py (this machine, or one that ssh reaches).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from harness.config import Settings
from harness.errors import UsageError
from harness.model import Case, Observation

if TYPE_CHECKING:
    from harness.target.boot import Begun


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out about a machine."""

    # uname -r
    release: str
    # "kvm", "tcg" or "hardware"
    accelerator: str = ""
    # value of net.core.bpf_jit_enable: "1", "2", or "0"
    jit: str = ""
    # "bpftool v7.5.0 using libbpf v1.5"
    loader: str = ""
    # False for a kernel that is known to have no exceptions (the negative control)
    expects_throw: bool = True
    # feature -> "" where it is there, else why not
    features: dict[str, str] = field(default_factory=dict)
    # seconds from start to login
    boot_s: float = 0.0


# what a case needs that wants a guest of its own, before and after it: restored, or booted
FRESH = "fresh"


class Target(Protocol):
    """One machine under test."""

    @property
    def name(self) -> str:
        """Stable name for reports: "vm-6.12", "local", "ssh-box"."""

    @property
    def release(self) -> str:
        """Release (uname -r) as far as it is known without touching the machine, else ""."""

    @property
    def facts(self) -> Facts:
        """What was found out; probes on first use."""

    def run(self, case: Case) -> Observation:
        """Run one case. A crash, a hang and a loss in the middle of the case are verdicts.

        MachineLostError when there is no machine any more and none can be had.
        """

    def renew(self) -> bool:
        """Let the next case find a fresh machine; False where there is no other one."""

    def finish(self) -> tuple[str, ...]:
        """Unload everything; what was left behind by the last object, as in Observation.leaks."""

    def abort(self) -> None:
        """From another thread: let go of the machine now, so that a running case ends."""

    def close(self) -> None:
        """Let go of the machine: nothing of ours stays attached, pinned or running."""


@contextmanager
def open_target(spec: str, settings: Settings, begun: "Begun | None" = None) -> Iterator[Target]:
    """A target for "vm:KERNEL", "local" or "ssh:[USER@]HOST[:PORT]", closed at the end.

    `begun`: the guest, where it has been started already.

    UsageError for a spec that names nothing, MachineLostError when the machine cannot be had.
    """
    # here, because paramiko is slow to import and most commands need no target
    from harness.target import remote, virtual  # noqa: PLC0415

    kind, _, rest = spec.partition(":")
    if kind == "vm":
        target: Target = virtual.open_vm(rest or "default", settings, begun)
    elif spec == "local":
        target = remote.open_local(settings)
    elif kind == "ssh" and rest:
        target = remote.open_ssh(rest, settings)
    else:
        raise UsageError(f"unknown target {spec!r}", fix="vm, vm:KERNEL, local or ssh:HOST")
    try:
        yield target
    finally:
        target.close()
