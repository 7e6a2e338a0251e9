# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One instruction, one kind of pointer: what paths that meet at an instruction must agree on.

A kernel rewrites instructions by what they work on (contexts, arenas, its own objects), so that the
same one cannot do two things. Source: save_aux_ptr_type(), reg_type_mismatch_ok() and
adjust_reg_min_max_vals() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.bpf.isa import ALU_OPS, Class, Insn
from harness.verify import registers as r
from harness.verify.prediction import Category
from harness.verify.registers import Reg, type_name

if TYPE_CHECKING:
    from harness.verify.walk import Walk

# reg_type_mismatch_ok(): types that are rewritten
_OWN: Final = frozenset({r.CTX, r.BTF_ID, r.ARENA}) | r.SOCKETS
_MERGED: Final = frozenset({r.BTF_ID})
_MERGED_7_3: Final = frozenset({r.BTF_ID, r.MEM})
_FLAGS_AT: Final = 8
_TYPE: Final = (1 << _FLAGS_AT) - 1
_UNARY: Final = frozenset({"mov", "neg", "end"})


def access(walk: Walk, base: Reg, *, load: bool) -> None:
    """After an access through `base`, as it was before."""
    kind = base.type | base.flags << _FLAGS_AT
    before = walk.pointer_types.setdefault(walk.pc, kind)
    if before == kind or not (_is_own(kind) or _is_own(before)):
        return
    merged = _MERGED_7_3 if walk.release >= (7, 0) else _MERGED
    if load and {kind & _TYPE, before & _TYPE} <= merged:
        return
    other = type_name(Reg(before & _TYPE, flags=before >> _FLAGS_AT))
    walk.reject(
        Category.REGISTER_TYPE,
        "same insn cannot be used with different pointers",
        why=f"the pointer is {type_name(base)} on this path and {other} on another one",
        fix="access each in a branch of its own: barrier() keeps the compiler from merging them",
        certain=True,
    )


def _is_own(kind: int) -> bool:
    untrusted_memory = kind & _TYPE == r.MEM and kind >> _FLAGS_AT & r.UNTRUSTED
    return kind & _TYPE in _OWN or bool(untrusted_memory)


def arithmetic(walk: Walk, insn: Insn) -> None:
    """Before 64-bit arithmetic in a program with an arena, whose addresses have 32 bits."""
    if insn.cls is not Class.ALU64 or ALU_OPS.get(insn.op) in _UNARY:
        return
    operands = [walk.regs[insn.dst]] + ([walk.regs[insn.src]] if insn.uses_register else [])
    here = any(reg.type == r.ARENA for reg in operands)
    if walk.arena_arithmetic.setdefault(walk.pc, here) == here:
        return
    words = "same insn cannot be used with and without arena pointer"
    if walk.release < (7, 0):
        walk.unknown(f"arithmetic on arena pointers and numbers by one instruction: {words}")
    walk.reject(
        Category.REGISTER_TYPE,
        words,
        why="this is an address in an arena on one path and a number on another one",
        fix="compute each in a branch of its own",
        certain=True,
    )
