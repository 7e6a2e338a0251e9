# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loads and stores through pointers with a BTF type: objects of the program's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.verify.registers import type_name

if TYPE_CHECKING:
    from harness.verify.registers import Reg
    from harness.verify.walk import Walk


def read(walk: Walk, base: Reg, regno: int, off: int, size: int) -> Reg:
    """A load."""
    walk.unknown(f"a load through {type_name(base)} in R{regno}")


def write(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    """A store."""
    walk.unknown(f"a store through {type_name(base)} in R{regno}")
