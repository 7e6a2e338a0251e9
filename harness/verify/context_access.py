# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loads and stores in a program's context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.verify import registers as r
from harness.verify.registers import Reg, scalar

if TYPE_CHECKING:
    from harness.verify.walk import Walk

_PACKET = {
    "tc": {76: r.PACKET, 80: r.PACKET_END, 140: r.PACKET_META},
    "xdp": {0: r.PACKET, 4: r.PACKET_END, 8: r.PACKET_META},
}


def read(walk: Walk, base: Reg, regno: int, off: int, size: int, *, signed: bool) -> Reg:
    """A load."""
    if base.num is not None:
        walk.unknown("context at variable offset")
    at = base.off + off
    kind = _PACKET.get(walk.kind, {}).get(at)
    if kind:
        return Reg(kind)
    if walk.kind in _PACKET:
        return scalar(walk.domain.unknown)
    walk.unknown("context")


def write(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    """A store."""
    walk.unknown("context")
