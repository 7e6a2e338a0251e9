# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How the bits, the range and the low half's range of one number inform each other.

One function per kind of range, each as far as the kernels with that kind go: reg_bounds_sync()
and what it calls in kernel/bpf/verifier.c of Linux 6.12.107 (bounds) and 7.3 (arcs). More could
be concluded; then the model would accept what a kernel refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

from harness.verify import tnum
from harness.verify.ranges import Arc, ArcKind, Bounds, BoundsKind
from harness.verify.tnum import Tnum

if TYPE_CHECKING:
    from harness.verify.ranges import Kind, Range, Width

Parts: TypeAlias = "tuple[Tnum, Range, Range]"


def of_bits(kind: Kind, known: Tnum) -> Range:
    """Range of the values that agree with the known bits."""
    width = kind.width
    if not known.highest & width.half:
        return kind.unsigned(known.value, known.highest)
    # the sign set, and as few other bits as can be; or as many, and no sign if that can be
    return kind.signed(
        width.signed(known.value | known.mask & width.half),
        width.signed(known.value | known.mask & width.top),
    )


def _bits_of_ranges(known: Tnum, wide: Range, narrow: Range, low: int) -> Tnum:
    better = tnum.intersect(known, tnum.between(wide.umin, wide.umax))
    lower = tnum.intersect(tnum.truncate(better, low), tnum.between(narrow.umin, narrow.umax))
    return tnum.with_low(better, lower, low)


# bounds ------------------------------------------------------------------------------------


def of_bounds(wide: Kind, narrow: Kind, known: Tnum, span: Range, low: Range) -> Parts:
    """The three parts, informed by each other."""
    assert isinstance(wide, BoundsKind)
    assert isinstance(narrow, BoundsKind)
    ones = narrow.width.ones
    span = wide.meet(span, _bounds_of_bits(wide.width, known))
    low = narrow.meet(low, _bounds_of_bits(narrow.width, tnum.truncate(known, ones)))
    for _ in range(3):
        before = known, span, low
        low = narrow.settle(_low_of(narrow.width, span, low))
        known, span = _wide_of(narrow.width, known, wide.settle(span), low)
        if (known, span, low) == before:
            break
    known = _bits_of_ranges(known, span, low, ones)
    return (
        known,
        wide.meet(span, _bounds_of_bits(wide.width, known)),
        narrow.meet(low, _bounds_of_bits(narrow.width, tnum.truncate(known, ones))),
    )


def _bounds_of_bits(width: Width, known: Tnum) -> Bounds:
    return Bounds(
        known.value,
        known.highest,
        width.signed(known.value | known.mask & width.half),
        width.signed(known.value | known.mask & width.top),
    )


def _low_of(width: Width, span: Range, low: Range) -> Bounds:
    """Low half's bounds, where the high half is the same at both ends or grows by one."""
    umin, umax, smin, smax = low[:4]
    ones = width.ones
    for first, last in (span[:2], span[2:4]):
        start, end = first & ones, last & ones
        signed_start, signed_end = width.signed(start), width.signed(end)
        turns = (last >> width.bits) - (first >> width.bits)
        if turns == 0:
            if start <= end:
                umin, umax = max(umin, start), min(umax, end)
            if signed_start <= signed_end:
                smin, smax = max(smin, signed_start), min(smax, signed_end)
        elif turns == 1 and signed_start < 0 <= signed_end:
            smin, smax = max(smin, signed_start), min(smax, signed_end)
    return Bounds(umin, umax, smin, smax)


def _wide_of(width: Width, known: Tnum, span: Bounds, low: Bounds) -> tuple[Tnum, Bounds]:
    """Ends of the bounds, with low halves that can be."""
    ones = width.ones
    umin, umax, smin, smax = span
    pairs = [(low.umin, low.umax)]
    if low.smin & ones <= low.smax & ones:
        pairs.append((low.smin & ones, low.smax & ones))
    for start, end in pairs:
        umin, umax = max(umin, umin & ~ones | start), min(umax, umax & ~ones | end)
        smin, smax = max(smin, smin & ~ones | start), min(smax, smax & ~ones | end)
    if low.smin >= 0 and smin >= width.lowest and smax <= width.top:
        # after an extension of the sign: no sign, hence no ones in front
        umin, umax = smin, smax = low.smin, low.smax
        known = tnum.intersect(known, tnum.between(umin, umax))
    return known, Bounds(umin, umax, smin, smax)


# arcs --------------------------------------------------------------------------------------


def of_arcs(wide: Kind, narrow: Kind, known: Tnum, span: Range, low: Range) -> Parts:
    """The three parts, informed by each other."""
    assert isinstance(wide, ArcKind)
    assert isinstance(narrow, ArcKind)
    ones = narrow.width.ones
    if span.empty or low.empty:
        return known, span, low
    known, span, low = _bits_into_arcs(wide, narrow, known, span, low)
    for _ in range(2):
        low = narrow.meet(low, _low_arc(narrow, span))
        span = wide.with_low(span, low, ones)
    known = _bits_of_ranges(known, span, low, ones)
    return _bits_into_arcs(wide, narrow, known, span, low)


def _low_arc(narrow: ArcKind, span: Range) -> Range:
    arc = cast("Arc", span)
    return narrow.nothing if arc.empty else narrow.arc(arc.base, arc.size)


def _bits_into_arcs(wide: ArcKind, narrow: ArcKind, known: Tnum, span: Range, low: Range) -> Parts:
    ones = narrow.width.ones
    low = narrow.meet(low, of_bits(narrow, tnum.truncate(known, ones)))
    span = wide.meet(span, of_bits(wide, known))
    only = _only_member(known, span)
    if only is None:
        return known, span, low
    return Tnum(only, 0), wide.unsigned(only, only), narrow.unsigned(only & ones, only & ones)


def _only_member(known: Tnum, span: Range) -> int | None:
    """The one value of the unsigned range that agrees with the bits, where there is only one."""
    top = known.highest
    after = tnum.above(known, span.umin)
    if after is None:
        after = top
    if known.contains(span.umin):
        return span.umin if after > span.umax else None
    if after == top:
        return top
    if after > span.umax:
        return None
    following = tnum.above(known, after)
    return after if (top if following is None else following) > span.umax else None
