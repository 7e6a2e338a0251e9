# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loads and stores in a program's context, by the tables of harness.verify.contexts.

Owns what the pointer itself may look like. Source: check_ctx_access() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import contexts, helpermem
from harness.verify import registers as r
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar

if TYPE_CHECKING:
    from harness.verify.walk import Walk

_TYPES: Final = {
    contexts.PACKET: r.PACKET,
    contexts.PACKET_END: r.PACKET_END,
    contexts.PACKET_META: r.PACKET_META,
    contexts.FLOW_KEYS: r.FLOW_KEYS,
    contexts.TP_BUFFER: r.TP_BUFFER,
    contexts.SOCKET: r.SOCKET,
}
_OR_NULL: Final = {
    contexts.SOCKET_OR_NULL: r.SOCKET,
    contexts.SOCK_COMMON_OR_NULL: r.SOCK_COMMON,
}


# bytes, of a context that may be read and written anywhere
_LARGEST_OF_SYSCALLS: Final = 0xFFFF


def read(walk: Walk, base: Reg, regno: int, off: int, size: int, *, signed: bool) -> Reg:
    """A load; gives its result."""
    gives = _access(walk, base, regno, off, size, write=False, signed=signed)
    if gives == contexts.SCALAR:
        return scalar(walk.domain.unknown)
    if gives in _OR_NULL:
        return Reg(_OR_NULL[gives], flags=r.MAYBE_NULL, id=walk.new_id())
    if gives.startswith(contexts.BTF):
        return Reg(r.BTF_ID, what=("kernel", gives), flags=r.TRUSTED)
    return Reg(_TYPES[gives])


def write(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    """A store."""
    _access(walk, base, regno, off, size, write=True, signed=False)


def _access(  # one access
    walk: Walk, base: Reg, regno: int, off: int, size: int, *, write: bool, signed: bool
) -> str:
    if walk.kind == "syscall" and walk.release >= (7, 0):
        from harness.verify.memory import check_region  # noqa: PLC0415  # a circle otherwise

        check_region(walk, base, regno, off, size, _LARGEST_OF_SYSCALLS)
        return contexts.SCALAR
    if base.off or base.num is not None:
        _check_moved(walk, base, regno)
        off += base.off
    gives = contexts.access(
        walk.kind, walk.target, off, size, write=write, signed=signed, release=walk.release
    )
    if gives is None:
        walk.reject(
            Category.MEMORY,
            f"invalid bpf_context access off={off} size={size}",
            errno=13,
            why=f"a program of type {walk.kind} may not {'write' if write else 'read'} "
            f"{size} bytes at byte {off} of its context",
        )
    return gives


def _check_moved(walk: Walk, base: Reg, regno: int) -> None:
    """Which pointers into the context may have an offset: none before 7.0."""
    if walk.release < (6, 18) or walk.kind in contexts.REWRITTEN:
        helpermem.check_fixed(walk, base, regno)
    if walk.release < (7, 0):
        walk.unknown("a context at an offset on this release")
    if base.num is not None or base.off < 0:
        walk.unknown("a context at a variable offset")
