# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Ranges of numbers of one width: as bounds, unsigned and signed, or as arcs of a circle.

Kernels before 7.0 keep four bounds per width; later ones one arc, which has the four bounds as
views (kernel/bpf/cnum_defs.h in Linux 7.3). Both have the same interface, so that
harness.verify.scalar does not care. Knows nothing of bits (harness.verify.tnum) and of how the
two widths of a register inform each other.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias


class Width:
    """Constants of a width in bits."""

    __slots__ = ("bits", "half", "lowest", "ones", "top")

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.ones = (1 << bits) - 1
        # the sign bit; the largest and smallest signed number
        self.half = 1 << bits - 1
        self.top = self.half - 1
        self.lowest = -self.half

    def signed(self, number: int) -> int:
        """Low bits of `number` as a signed number."""
        number &= self.ones
        return number - (self.half << 1) if number & self.half else number


class Bounds(NamedTuple):
    """Values v with umin <= v <= umax that are smin <= v <= smax as signed numbers."""

    umin: int
    umax: int
    smin: int
    smax: int

    @property
    def empty(self) -> bool:
        """Whether one of the two pairs is the wrong way round."""
        return self.umin > self.umax or self.smin > self.smax


class Arc(NamedTuple):
    """base, base + 1, ... base + size, modulo 2^width. The others are views of it."""

    umin: int
    umax: int
    smin: int
    smax: int
    base: int
    size: int

    @property
    def empty(self) -> bool:
        """Whether it has no value at all."""
        return self.size < 0


Range: TypeAlias = Bounds | Arc


class Kind(Protocol):
    """What can be done with ranges of one kind and width; results are of that kind."""

    width: Width
    full: Range
    nothing: Range

    def unsigned(self, low: int, high: int) -> Range:
        """low..high; low <= high."""

    def signed(self, low: int, high: int) -> Range:
        """low..high, of signed numbers."""

    def both(self, unsigned: tuple[int, int], signed: tuple[int, int]) -> Range:
        """What is in an unsigned and in a signed range."""

    def meet(self, a: Range, b: Range) -> Range:
        """What is in both; may be empty, may be too much where that would be two pieces."""

    def add(self, a: Range, b: Range) -> Range:
        """Sums modulo 2^width."""

    def subtract(self, a: Range, b: Range) -> Range:
        """Differences modulo 2^width."""

    def without(self, a: Range, number: int) -> Range:
        """`a` but for an unsigned number, as far as that can be said."""

    def covers(self, outer: Range, inner: Range) -> bool:
        """Whether all of `inner` is in `outer`."""


class BoundsKind:
    """Ranges with bounds: Linux before 7.0."""

    __slots__ = ("crosses", "full", "nothing", "width", "wraps")

    def __init__(self, bits: int, *, wraps: bool, crosses: bool = True) -> None:
        self.width = width = Width(bits)
        self.full: Range = Bounds(0, width.ones, width.lowest, width.top)
        self.nothing: Range = Bounds(width.ones, 0, width.top, width.lowest)
        # sums that leave the range at both ends are a range again: Linux kernel commit
        # 7a998a731627 (v6.17)
        self.wraps = wraps
        # signed bounds on both sides of 0 inform unsigned ones that are on one side only
        self.crosses = crosses

    def unsigned(self, low: int, high: int) -> Range:
        """With the signed bounds where no sign changes in between."""
        width = self.width
        if (low ^ high) & width.half:
            return Bounds(low, high, width.lowest, width.top)
        return Bounds(low, high, width.signed(low), width.signed(high))

    def signed(self, low: int, high: int) -> Range:
        """With the unsigned bounds where no sign changes in between."""
        ones = self.width.ones
        if low < 0 <= high:
            return Bounds(0, ones, low, high)
        return Bounds(low & ones, high & ones, low, high)

    def both(self, unsigned: tuple[int, int], signed: tuple[int, int]) -> Range:
        return Bounds(*unsigned, *signed)

    def meet(self, a: Range, b: Range) -> Range:
        return Bounds(
            max(a.umin, b.umin), min(a.umax, b.umax), max(a.smin, b.smin), min(a.smax, b.smax)
        )

    def add(self, a: Range, b: Range) -> Range:
        return self._placed((a.umin + b.umin, a.umax + b.umax), (a.smin + b.smin, a.smax + b.smax))

    def subtract(self, a: Range, b: Range) -> Range:
        return self._placed((a.umin - b.umax, a.umax - b.umin), (a.smin - b.smax, a.smax - b.smin))

    def _placed(self, unsigned: tuple[int, int], signed: tuple[int, int]) -> Range:
        """Bounds that may have left the range of numbers."""
        width, ones = self.width, self.width.ones
        low, high = unsigned
        turns = low >> width.bits
        if turns != high >> width.bits or (turns and not self.wraps):
            low, high = 0, ones
        smin, smax = signed
        if smin < width.lowest or smax > width.top:
            smin, smax = width.lowest, width.top
        return Bounds(low & ones, high & ones, smin, smax)

    def without(self, a: Range, number: int) -> Range:
        """Only an end can be taken off."""
        signed = self.width.signed(number)
        return Bounds(
            a.umin + (a.umin == number),
            a.umax - (a.umax == number),
            a.smin + (a.smin == signed),
            a.smax - (a.smax == signed),
        )

    def covers(self, outer: Range, inner: Range) -> bool:
        return (
            outer.umin <= inner.umin
            and outer.umax >= inner.umax
            and outer.smin <= inner.smin
            and outer.smax >= inner.smax
        )

    def settle(self, a: Range) -> Bounds:
        """Let the two pairs of bounds inform each other."""
        signed, ones = self.width.signed, self.width.ones
        umin, umax, smin, smax = a[:4]
        if signed(umin) <= signed(umax):
            smin, smax = max(smin, signed(umin)), min(smax, signed(umax))
        if smin & ones <= smax & ones:
            umin, umax = max(umin, smin & ones), min(umax, smax & ones)
        elif not self.crosses:
            pass
        elif umax < smin & ones:
            # only the part of the signed range from 0 on is in the unsigned one
            smin, umax = signed(umin), min(umax, smax & ones)
        elif smax & ones < umin:
            # only the negative part is
            smax, umin = signed(umax), max(umin, smin & ones)
        return Bounds(umin, umax, smin, smax)


class ArcKind:
    """Ranges as arcs: Linux from 7.0 on."""

    __slots__ = ("full", "nothing", "width")

    def __init__(self, bits: int) -> None:
        self.width = width = Width(bits)
        self.full: Range = Arc(0, width.ones, width.lowest, width.top, 0, width.ones)
        # the views are what a kernel's functions make of it, and it does go on with them
        self.nothing: Range = Arc(0, width.ones, -2, -1, width.ones, -1)

    def arc(self, base: int, size: int) -> Arc:
        """The arc from `base` (any number, modulo 2^width) over `size` more values."""
        width, ones = self.width, self.width.ones
        if size >= ones:
            base, size = 0, ones
        base &= ones
        end = base + size
        umin, umax = (base, end) if end <= ones else (0, ones)
        # turned by half a circle, the signed numbers are in order
        start = base ^ width.half
        end = start + size
        if end <= ones:
            smin, smax = start + width.lowest, end + width.lowest
        else:
            smin, smax = width.lowest, width.top
        return Arc(umin, umax, smin, smax, base, size)

    def unsigned(self, low: int, high: int) -> Range:
        return self.arc(low, high - low & self.width.ones)

    signed = unsigned

    def both(self, unsigned: tuple[int, int], signed: tuple[int, int]) -> Range:
        return self.meet(self.unsigned(*unsigned), self.signed(*signed))

    def meet(self, a: Range, b: Range) -> Range:
        """Where two arcs meet in two places, the shorter of them."""
        assert isinstance(a, Arc)
        assert isinstance(b, Arc)
        if a.empty or b.empty:
            return self.nothing
        if a.base > b.base:
            a, b = b, a
        # seen from a's base
        start = b.base - a.base
        over = start + b.size - self.width.ones - 1
        if start <= a.size:
            if over >= 0:
                return a if a.size <= b.size else b
            return self.arc(b.base, min(a.size - start, b.size))
        return self.arc(a.base, min(a.size, over)) if over >= 0 else self.nothing

    def add(self, a: Range, b: Range) -> Range:
        assert isinstance(a, Arc)
        assert isinstance(b, Arc)
        return self.nothing if a.empty or b.empty else self.arc(a.base + b.base, a.size + b.size)

    def subtract(self, a: Range, b: Range) -> Range:
        assert isinstance(a, Arc)
        assert isinstance(b, Arc)
        if a.empty or b.empty:
            return self.nothing
        return self.arc(a.base - b.base - b.size, a.size + b.size)

    def without(self, a: Range, number: int) -> Range:
        return self.meet(a, self.arc(number + 1, self.width.ones - 1))

    def covers(self, outer: Range, inner: Range) -> bool:
        assert isinstance(outer, Arc)
        assert isinstance(inner, Arc)
        if inner.empty or outer.size == self.width.ones:
            return True
        return not outer.empty and (inner.base - outer.base & self.width.ones) + inner.size <= (
            outer.size
        )

    def with_low(self, a: Range, low: Range, ones: int) -> Range:
        """The shortest arc with those of `a` whose low bits (those in `ones`) are in `low`."""
        assert isinstance(a, Arc)
        assert isinstance(low, Arc)
        if a.empty or low.empty:
            return self.nothing
        start = low.base - a.base & ones
        first = 0 if -start & ones <= low.size else start
        past = (a.size & ones) - start & ones
        last = a.size if past <= low.size else a.size - past + low.size
        return self.arc(a.base + first, last - first) if first <= last else self.nothing
