# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What exists in the kernel, before and after: programs, maps, links.

Frees are deferred (RCU, work queues), so something that is still there gets a moment to go.
"""

import os
import time
from collections.abc import Callable

from harness.target.agent import syscall

_GRACE_S = 2.0
_STEP_S = 0.05
_NEXT = {"prog": syscall.PROG_NEXT_ID, "map": syscall.MAP_NEXT_ID, "link": syscall.LINK_NEXT_ID}
_BY_ID = {"prog": syscall.PROG_BY_ID, "map": syscall.MAP_BY_ID}

Census = dict[str, frozenset[int]]
Mark = dict[str, int]
# kind and id
Ident = tuple[str, int]


def census() -> Census:
    """Ids of everything BPF that exists now, by kind."""
    return {kind: frozenset(syscall.ids(command)) for kind, command in _NEXT.items()}


def mark(since: Mark) -> Mark:
    """The highest id of each kind. What is not above `since` is not looked at.

    Ids only grow: the kernel gives them out in a circle (idr_alloc_cyclic), of 2^31.
    """
    return {
        kind: max(syscall.ids(command, since.get(kind, 0)), default=since.get(kind, 0))
        for kind, command in _NEXT.items()
    }


def after(before: Mark) -> tuple[str, ...]:
    """What exists now and was made after `before`: "prog 17 'main'"; waits as beyond() does."""
    return _settled(
        lambda: [
            (kind, ident)
            for kind, command in _NEXT.items()
            for ident in syscall.ids(command, before[kind])
        ]
    )


def beyond(before: Census) -> tuple[str, ...]:
    """What exists now and did not at `before`: "prog 17 'main'". Waits for deferred frees."""

    def extra() -> list[Ident]:
        now = census()
        return [(kind, ident) for kind in _NEXT for ident in sorted(now[kind] - before[kind])]

    return _settled(extra)


def _settled(extra: Callable[[], list[Ident]]) -> tuple[str, ...]:
    deadline = time.monotonic() + _GRACE_S
    while True:
        found = extra()
        if not found:
            return ()
        if time.monotonic() > deadline:
            return tuple(_describe(kind, ident) for kind, ident in found)
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
