# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What became of a guest that did not answer: crashed, hung or lost, with the console's evidence.

Owns the reading of a dying guest's console, and the interrupt that makes a hung one say where it
is. Does not end guests.
"""

import datetime as dt
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import WorldError
from harness.model import Observation, Verdict
from harness.target import qmp, splats
from harness.target.console import crash, init_said
from harness.target.deadline import Deadline

if TYPE_CHECKING:
    from harness.target.vm import Guest

# a guest command line has unknown_nmi_panic (virtme.py): an interrupt that nobody expects ends it
_NMI_S = 10.0
_POLL_S = 0.02
# the first that a kernel says of our own interrupt
_INTERRUPTED = re.compile(
    r"^.*(?:Uhhuh\. NMI received|Kernel panic - not syncing: NMI).*", re.MULTILINE
)
_CONSOLE_LINES = 400


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a dying guest is given."""

    # for the kernel's last words after its agent went away
    death_s: float
    # factor on what an interrupt may take
    scale: float = 1.0


def examine(
    guest: "Guest", console_from: int, verdict: Verdict, error: WorldError, patience: Patience
) -> Observation:
    """What is to be said of a case whose guest did not answer; HUNG or LOST is what it looks like.

    `console_from`: length of the console when the case began.
    """
    deadline = Deadline(patience.death_s)
    while verdict is Verdict.LOST and guest.alive() and not deadline.over:
        time.sleep(_POLL_S)
    before = guest.console_text()[console_from:]
    crashed = crash(before)
    message = error.message
    if crashed:
        verdict, message = Verdict.CRASHED, crashed
    elif verdict is Verdict.LOST and guest.alive():
        message += ": it was killed, or crashed; the guest itself lives"
    elif verdict is Verdict.LOST:
        message += f": QEMU has ended, {init_said(before) or 'without a word from the kernel'}"
    elif verdict is Verdict.HUNG:
        stack = " < ".join(interrupted_in(interrupt(guest, patience.scale)))
        message += f"; interrupted in {stack}" if stack else "; it answers no interrupt either"
    # a kernel whose console has a thread of its own prints only now what it had to say before
    console = guest.console_text()[console_from:]
    ours = _INTERRUPTED.search(console)
    complaints = console[: ours.start()] if ours else console
    return Observation(
        verdict,
        message=message,
        splats=splats.find_splats(complaints, splats.load_rules(), dt.datetime.now(dt.UTC).date()),
        kernel_log="\n".join(console.splitlines()[-_CONSOLE_LINES:]),
        log=error.evidence,
    )


def interrupt(guest: "Guest", scale: float = 1.0) -> str:
    """Have a hung kernel print where it is, by an NMI, which ends it; the console from there on.

    "" where QEMU does not answer or the kernel says nothing.
    """
    begin = len(guest.console_text())
    deadline = Deadline(_NMI_S * scale)
    try:
        with qmp.Monitor(guest.run_dir, deadline) as monitor:
            monitor.command("inject-nmi")
    except WorldError:
        return ""
    while guest.alive() and not deadline.over:
        time.sleep(_POLL_S)
    return guest.console_text()[begin:]


def interrupted_in(console: str) -> tuple[str, ...]:
    """Functions that an NMI found on the stack, innermost first; () where there is no trace."""
    lines = splats.plain_lines(console)
    ends = [index for index, line in enumerate(lines) if line.strip() == "</NMI>"]
    if not ends:
        return ()
    # what was interrupted is the last instruction pointer that the handler's own part prints
    starts = [index for index in range(ends[0]) if lines[index].startswith("RIP: ")]
    return splats.fingerprint(lines[starts[-1] if starts else ends[0] :])
