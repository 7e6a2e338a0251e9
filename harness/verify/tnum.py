# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Tracked numbers: which bits of a value are known. Arithmetic on them, at any width.

A bit is known 0, known 1 or unknown; a tracked number stands for all values that agree with its
known bits. Every function is sound (its result stands for all results of all values that its
operands stand for); most are as tight as can be. Theory: Vishwanathan et al., "Sound, Precise,
and Fast Abstract Interpretation with Tristate Numbers" (CGO 2022). Knows nothing of ranges.
"""

from __future__ import annotations

from typing import NamedTuple

U64 = (1 << 64) - 1


class Tnum(NamedTuple):
    """Known bits in `value`; ones in `mask` are unknown. value & mask is 0."""

    value: int
    mask: int

    @property
    def is_const(self) -> bool:
        """Whether it stands for one value."""
        return not self.mask

    @property
    def highest(self) -> int:
        """The largest unsigned value it stands for; the smallest is `value`."""
        return self.value | self.mask

    def contains(self, number: int) -> bool:
        """Whether it stands for the unsigned `number`."""
        return number & ~self.mask == self.value

    def covers(self, other: Tnum) -> bool:
        """Whether it stands for everything that `other` stands for."""
        return not other.mask & ~self.mask and other.value & ~self.mask == self.value

    def overlaps(self, other: Tnum) -> bool:
        """Whether some value agrees with both."""
        return not (self.value ^ other.value) & ~self.mask & ~other.mask

    def aligned(self, size: int) -> bool:
        """Whether all its values are multiples of `size`, a power of two or 0."""
        return not size or not self.highest & (size - 1)

    def __str__(self) -> str:
        """As the kernel's log has it: (value; mask)."""
        return f"({self.value:#x}; {self.mask:#x})"


UNKNOWN = Tnum(0, U64)


def const(value: int) -> Tnum:
    """The one value, unsigned."""
    return Tnum(value, 0)


def between(low: int, high: int) -> Tnum:
    """What all of low..high (unsigned, low <= high) have in common."""
    free = (1 << (low ^ high).bit_length()) - 1
    return Tnum(low & ~free, free)


def add(a: Tnum, b: Tnum, ones: int = U64) -> Tnum:
    """Sum modulo 2^width; `ones` is the width's mask, here and below."""
    values = a.value + b.value
    highest = values + a.mask + b.mask
    unknown = ((highest ^ values) | a.mask | b.mask) & ones
    return Tnum(values & ~unknown & ones, unknown)


def sub(a: Tnum, b: Tnum, ones: int = U64) -> Tnum:
    """Difference modulo 2^width."""
    values = a.value - b.value
    unknown = (((values + a.mask) ^ (values - b.mask)) | a.mask | b.mask) & ones
    return Tnum(values & ~unknown & ones, unknown)


def bit_and(a: Tnum, b: Tnum) -> Tnum:
    """Ones where both have ones."""
    value = a.value & b.value
    return Tnum(value, a.highest & b.highest & ~value)


def bit_or(a: Tnum, b: Tnum) -> Tnum:
    """Ones where either has one."""
    value = a.value | b.value
    return Tnum(value, (a.mask | b.mask) & ~value)


def bit_xor(a: Tnum, b: Tnum) -> Tnum:
    """Ones where they differ."""
    mask = a.mask | b.mask
    return Tnum((a.value ^ b.value) & ~mask, mask)


def union(a: Tnum, b: Tnum) -> Tnum:
    """What is common to both: stands for all values of either."""
    mask = (a.value ^ b.value) | a.mask | b.mask
    return Tnum(a.value & b.value & ~mask, mask)


def intersect(a: Tnum, b: Tnum) -> Tnum:
    """What either knows; means nothing where they contradict each other."""
    mask = a.mask & b.mask
    return Tnum((a.value | b.value) & ~mask, mask)


def mul(a: Tnum, b: Tnum, ones: int = U64) -> Tnum:
    """Product modulo 2^width: long multiplication that joins where a bit of `a` is unknown.

    As Linux has it since v6.18 (Linux kernel commit 1df7dad4d5c4).
    """
    total, place = Tnum(0, 0), 0
    rest = a.highest
    while rest:
        if rest & 1:
            shifted = Tnum(b.value << place & ones, b.mask << place & ones)
            summed = add(total, shifted, ones)
            total = summed if a.value >> place & 1 else union(total, summed)
        rest >>= 1
        place += 1
    return total


def mul_split(a: Tnum, b: Tnum, ones: int = U64) -> Tnum:
    """Product modulo 2^width: known bits multiplied, unknown ones added up apart.

    Looser than mul(); as Linux had it before v6.18 (the CGO 2022 paper's our_mul).
    """
    unknown, place = Tnum(0, 0), 0
    rest = a.highest
    while rest:
        if rest & 1:
            mask = b.mask if a.value >> place & 1 else b.highest
            unknown = add(unknown, Tnum(0, mask << place & ones), ones)
        rest >>= 1
        place += 1
    return add(Tnum(a.value * b.value & ones, 0), unknown, ones)


def shift_left(a: Tnum, count: int, ones: int = U64) -> Tnum:
    """Shifted left, zeros come in."""
    return Tnum(a.value << count & ones, a.mask << count & ones)


def shift_right(a: Tnum, count: int) -> Tnum:
    """Shifted right, zeros come in."""
    return Tnum(a.value >> count, a.mask >> count)


def shift_right_signed(a: Tnum, count: int, ones: int = U64) -> Tnum:
    """Shifted right, copies of the sign bit, known or not, come in."""
    return Tnum(_arithmetic(a.value, count, ones), _arithmetic(a.mask, count, ones))


def _arithmetic(number: int, count: int, ones: int) -> int:
    filled = number | ~ones if number & (ones ^ ones >> 1) else number
    return filled >> count & ones


def truncate(a: Tnum, ones: int) -> Tnum:
    """Its low bits; the others become 0."""
    return Tnum(a.value & ones, a.mask & ones)


def with_low(a: Tnum, low: Tnum, ones: int) -> Tnum:
    """`a` with its low bits (those in `ones`) taken from `low`."""
    return Tnum(a.value & ~ones | low.value & ones, a.mask & ~ones | low.mask & ones)


def swapped(a: Tnum, size_bytes: int) -> Tnum:
    """The low `size_bytes` bytes in reverse order; the others become 0."""
    return Tnum(_swapped(a.value, size_bytes), _swapped(a.mask, size_bytes))


def _swapped(number: int, size_bytes: int) -> int:
    low = number & ((1 << 8 * size_bytes) - 1)
    return int.from_bytes(low.to_bytes(size_bytes, "little"), "big")


def above(a: Tnum, number: int) -> int | None:
    """The smallest value of `a` that is larger than `number`; None when there is none."""
    if number < a.value:
        return a.value
    if number >= a.highest:
        return None
    # count in the unknown bits only: bits that are known let a carry through
    distance = number - a.value
    below = (1 << (distance & ~a.mask).bit_length()) - 1
    return a.value | ((distance | below | ~a.mask) + 1 & a.mask)
