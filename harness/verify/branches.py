# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What bits and ranges say about a comparison, and a comparison about ranges.

Source: is_scalar_branch_taken() and regs_refine_cond_op() in kernel/bpf/verifier.c of Linux
6.12.107 and 7.3. Where both are put together is harness.verify.scalar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.verify import tnum

if TYPE_CHECKING:
    from harness.verify.ranges import Kind, Range
    from harness.verify.scalar import Scalar

# comparison -> what holds where it does not; "nset" is of this module only
REVERSED = {
    "eq": "ne", "ne": "eq", "gt": "le", "le": "gt", "lt": "ge", "ge": "lt", "sgt": "sle",
    "sle": "sgt", "slt": "sge", "sge": "slt", "set": "nset", "nset": "set",
}  # fmt: skip
# a OP b is b FLIPPED[OP] a
FLIPPED = {
    "eq": "eq", "ne": "ne", "set": "set", "nset": "nset", "gt": "lt", "lt": "gt", "ge": "le",
    "le": "ge", "sgt": "slt", "slt": "sgt", "sge": "sle", "sle": "sge",
}  # fmt: skip
OF_ITSELF = {"eq": True, "ge": True, "le": True, "sge": True, "sle": True} | dict.fromkeys(
    ("ne", "gt", "lt", "sgt", "slt"), False
)


def ordered(kind: Kind, op: str, a: Range, b: Range) -> tuple[Range, Range]:
    """Ranges of a and b where a <= b, or a < b; signed or not."""
    strict = op in ("lt", "slt")
    width = kind.width
    if op in ("le", "lt"):
        a = kind.meet(a, _upto(kind, 0, b.umax - strict))
        return a, kind.meet(b, _upto(kind, a.umin + strict, width.ones))
    a = kind.meet(a, _upto_signed(kind, width.lowest, b.smax - strict))
    return a, kind.meet(b, _upto_signed(kind, a.smin + strict, width.top))


def _upto(kind: Kind, low: int, high: int) -> Range:
    return kind.unsigned(low, high) if low <= high else kind.nothing


def _upto_signed(kind: Kind, low: int, high: int) -> Range:
    return kind.signed(low, high) if low <= high else kind.nothing


def decide(op: str, a: Scalar, b: Scalar, *, whole: bool, low: int) -> bool | None:
    """What bits and ranges say at once."""
    if op in ("ne", "gt", "ge", "sgt", "sge"):
        if op == "ne":
            answer = decide("eq", a, b, whole=whole, low=low)
            return None if answer is None else not answer
        return decide(FLIPPED[op], b, a, whole=whole, low=low)
    one, other = (a.wide, b.wide) if whole else (a.narrow, b.narrow)
    if op in ("lt", "le"):
        return _less(one.umin, one.umax, other.umin, other.umax, strict=op == "lt")
    if op in ("slt", "sle"):
        return _less(one.smin, one.smax, other.smin, other.smax, strict=op == "slt")
    bits, more = a.tnum, b.tnum
    if not whole:
        bits, more = tnum.truncate(bits, low), tnum.truncate(more, low)
    if op == "set":
        if more.mask:
            bits, more = more, bits
        if more.mask:
            return None
        return True if bits.value & more.value else None if bits.mask & more.value else False
    if bits.is_const and more.is_const:
        return bits.value == more.value
    apart = not bits.overlaps(more) or _apart(one, other) or (whole and _apart(a.narrow, b.narrow))
    return False if apart else None


def _less(low: int, high: int, other_low: int, other_high: int, *, strict: bool) -> bool | None:
    if high + strict <= other_low:
        return True
    return False if low + strict > other_high else None


def _apart(a: Range, b: Range) -> bool:
    return a.umin > b.umax or a.umax < b.umin or a.smin > b.smax or a.smax < b.smin
