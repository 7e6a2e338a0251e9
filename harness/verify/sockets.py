# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What may be read through a pointer to a socket (struct bpf_sock).

Source: bpf_sock_is_valid_access(), bpf_sock_common_is_valid_access() in net/core/filter.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import registers as r
from harness.verify.prediction import Category
from harness.verify.registers import NAMES, Reg, scalar

if TYPE_CHECKING:
    from harness.verify.walk import Walk

_BYTES: Final = 80
_WORD: Final = 4
# [start, end) of fields, in bytes
_TYPE_TO_PRIORITY: Final = range(8, 24)
_PORT: Final = range(48, 50)
_BEHIND_PORT: Final = range(50, 52)
# fields of which a part may be read: their first bytes, and addresses anywhere
_PARTS: Final = frozenset({72, 4, 8, 12, 44, 76}) | set(range(24, 44)) | set(range(52, 72))


def read(walk: Walk, base: Reg, regno: int, off: int, size: int) -> Reg:
    """A load."""
    if base.type not in (r.SOCKET, r.SOCK_COMMON):
        walk.unknown(f"a load through a pointer to a {NAMES[base.type]}")
    if base.type == r.SOCK_COMMON and off in _TYPE_TO_PRIORITY:
        allowed = False
    else:
        allowed = _allowed(off, size)
    if not allowed:
        words = f"R{regno} invalid {NAMES[base.type]} access off={off} size={size}"
        walk.reject(Category.MEMORY, words, errno=13)
    return scalar(walk.domain.unknown)


def _allowed(off: int, size: int) -> bool:
    if not 0 <= off < _BYTES or off % size or off in _BEHIND_PORT:
        return False
    if off in _PORT:
        return size <= _WORD if off == _PORT.start else size == 1
    return size <= _WORD if off in _PARTS else size == _WORD
