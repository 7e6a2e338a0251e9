# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Calls of helpers, by their prototypes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.bpf.isa import Insn
    from harness.verify.walk import Walk


def call(walk: Walk, insn: Insn) -> int:
    """One call; gives the next instruction."""
    walk.unknown(f"helper {insn.imm}")
