# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loads and stores through pointers with a BTF type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.verify import objects

if TYPE_CHECKING:
    from harness.verify.registers import Reg
    from harness.verify.walk import Walk


def read(walk: Walk, base: Reg, regno: int, off: int, size: int) -> Reg:
    """A load."""
    return objects.access(walk, base, regno, off, size, write=False)


def write(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    """A store."""
    objects.access(walk, base, regno, off, size, write=True)
