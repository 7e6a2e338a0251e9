# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sets of the numbers of a width, a million side by side: bits of rows of 64-bit words.

The machine's operations come from small_numbers, so what is here knows nothing of the domain that
is tested but which numbers its bits, bounds and arcs stand for.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from small_numbers import COMPARISONS, OPERATIONS, of_tnum, tnums

_WORD = (1 << 64) - 1


def words(bits):
    """How many words a set of numbers of a width has."""
    return max(1, (1 << bits) // 64)


def _rows(sets, bits):
    """Sets as integers -> array of words x sets."""
    count = words(bits)
    return np.array(
        [[each >> 64 * word & _WORD for each in sets] for word in range(count)], dtype=np.uint64
    )


@cache
def singles(bits):
    """words x numbers: the sets of one number."""
    return _rows([1 << number for number in range(1 << bits)], bits)


@cache
def _spans(bits):
    """words x (low * (numbers + 1) + high + 1): sets of low..high, empty where low > high."""
    size = 1 << bits
    ends = range(size + 1)
    return _rows([(1 << max(end, low)) - (1 << low) for low in ends for end in ends], bits)


@cache
def _signed_spans(bits):
    """The same of signed numbers, counted from the smallest."""
    half, size = 1 << bits - 1, 1 << bits
    ends, low_ones = range(size + 1), (1 << half) - 1
    spans = ((1 << max(end, low)) - (1 << low) for low in ends for end in ends)
    return _rows([each >> half | (each & low_ones) << half for each in spans], bits)


@cache
def _arcs(bits):
    """words x (base * (numbers + 1) + size + 1): sets of base..base + size, modulo."""
    size, ones = 1 << bits, (1 << (1 << bits)) - 1
    spans = (((1 << more) - 1) << base for base in range(size) for more in range(size + 1))
    return _rows([(each | each >> size) & ones for each in spans], bits)


@cache
def _known(bits):
    """words x (value * numbers + mask)."""
    sets = [0] * (1 << 2 * bits)
    for each in tnums(bits):
        sets[each.value << bits | each.mask] = of_tnum(each)
    return _rows(sets, bits)


@cache
def _high(bits):
    """words x sets of the low half (as integers): every number whose low half is in it."""
    low = bits // 2
    steps = sum(1 << (high << low) for high in range(1 << bits - low))
    return _rows([each * steps for each in range(1 << (1 << low))], bits)


def _of_span(span, bits):
    """Sets of a range: of its bounds, and of its arc where it is one."""
    size, half = 1 << bits, 1 << bits - 1
    low, high = np.clip(span.umin, 0, size), np.clip(span.umax, -1, size - 1)
    first, last = np.clip(span.smin + half, 0, size), np.clip(span.smax + half, -1, size - 1)
    found = np.take(_spans(bits), low * (size + 1) + high + 1, axis=1)
    found &= np.take(_signed_spans(bits), first * (size + 1) + last + 1, axis=1)
    if hasattr(span, "base"):
        found &= np.take(_arcs(bits), span.base * (size + 1) + span.size + 1, axis=1)
    return found


def of_scalars(known, bits):
    """words x lanes: the sets of a Scalar of arrays."""
    found = _of_span(known.wide, bits)
    found &= np.take(_known(bits), known.tnum.value << bits | known.tnum.mask, axis=1)
    low = _of_span(known.narrow, bits // 2)[0].astype(np.int64)
    found &= np.take(_high(bits), low, axis=1)
    return found


# what the machine does ---------------------------------------------------------------------


@cache
def results(op, bits, width):
    """[a, b]: the result, of numbers of a width, of an operation on the low `bits` of both."""
    rule, ones, numbers = OPERATIONS[op], (1 << bits) - 1, range(1 << width)
    low = [[rule(a, b, bits) & ones for b in range(ones + 1)] for a in range(ones + 1)]
    return np.array([[low[a & ones][b & ones] for b in numbers] for a in numbers])


@cache
def truths(op, bits, width):
    """[a, b]: whether a comparison of the low `bits` of both holds."""
    rule, ones, numbers = COMPARISONS[op], (1 << bits) - 1, range(1 << width)
    return np.array([[bool(rule(a & ones, b & ones, bits)) for b in numbers] for a in numbers])


def gathered(sets, start, sizes, axis):
    """Unions of the sets of start, start + 1, ... start + size modulo, for all sizes below."""
    turned = np.roll(sets, -start, axis=axis)
    turned = np.take(turned, np.arange(sizes), axis=axis)
    return np.bitwise_or.accumulate(turned, axis=axis)
