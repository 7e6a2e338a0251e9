# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What exists in the kernel, before and after: programs, maps, links.

Frees are deferred (RCU, work queues), so something that is still there gets a moment to go.
"""

import os
import time

from harness.target.agent import syscall

_GRACE_S = 2.0
_STEP_S = 0.05
_NEXT = {"prog": syscall.PROG_NEXT_ID, "map": syscall.MAP_NEXT_ID, "link": syscall.LINK_NEXT_ID}
_BY_ID = {"prog": syscall.PROG_BY_ID, "map": syscall.MAP_BY_ID}

Census = dict[str, frozenset[int]]


def census() -> Census:
    """Ids of everything BPF that exists now, by kind."""
    return {kind: frozenset(syscall.ids(command)) for kind, command in _NEXT.items()}


def beyond(before: Census) -> tuple[str, ...]:
    """What exists now and did not at `before`: "prog 17 'main'". Waits for deferred frees."""
    deadline = time.monotonic() + _GRACE_S
    while True:
        now = census()
        extra = [(kind, ident) for kind in _NEXT for ident in sorted(now[kind] - before[kind])]
        if not extra:
            return ()
        if time.monotonic() > deadline:
            return tuple(_describe(kind, ident) for kind, ident in extra)
        time.sleep(_STEP_S)


def _describe(kind: str, ident: int) -> str:
    if kind not in _BY_ID:
        return f"{kind} {ident}"
    try:
        fd = syscall.by_id(_BY_ID[kind], ident)
    except OSError:
        return f"{kind} {ident}"
    try:
        name = syscall.prog_info(fd).name if kind == "prog" else syscall.map_info(fd).name
    finally:
        os.close(fd)
    return f"{kind} {ident} {name!r}"
