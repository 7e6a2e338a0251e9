# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a guest's console says of its end. Complaints of a kernel that goes on are splats.py's."""

import re

# What ends a kernel that runs with oops=panic. Lockups and sanitizers complain and go on.
_CRASH = (
    r"Kernel panic - not syncing: .*|BUG: (?:unable to handle|kernel NULL pointer).*|kernel BUG at"
    r" .*|Oops: .*|general protection fault.*|BUG: .*stack guard page.*|PANIC: .*"
)
# of init.sh, and of the initramfs before it
_INIT = r"bpfthrow-init: (.*)"
_FIRST = re.compile(f"{_CRASH}|{_INIT}")


def crash(console: str) -> str:
    """The first words with which the kernel ended; "" where it did not."""
    found = re.search(_CRASH, console)
    return found[0].strip() if found else ""


def init_said(console: str) -> str:
    """Why the guest's first process ended it; "" where it said nothing."""
    found = re.search(_INIT, console)
    return found[1] if found else ""


def reason(console: str) -> str:
    """Whichever came first: what follows is a consequence. "" where there is neither."""
    found = _FIRST.search(console)
    return found[0].strip() if found else ""
