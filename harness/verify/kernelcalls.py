# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Calls of kernel functions (kfuncs)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import throws

if TYPE_CHECKING:
    from harness.bpf.isa import Insn
    from harness.verify.walk import Walk

ENDS: Final = -1


def allowed_locked(walk: Walk, name: str) -> bool:
    """Whether a kernel function may be called while a lock is held."""
    return False


def call(walk: Walk, insn: Insn, name: str) -> int:
    """One call; gives the next instruction, or ENDS."""
    if name == "bpf_throw":
        throws.throw(walk)
        return ENDS
    walk.unknown(f"kernel function {name}")
