# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sets of small numbers as bits of one integer, and what operations make of them, by trying.

An abstract value stands for a set; an operation on abstract values is sound when the set of its
result has every result of the operation on members. Everything here knows the operations of the
machine only (RFC 9669), nothing of the domain that is tested.
"""

from functools import cache
from itertools import product

from harness.verify.tnum import Tnum


def signed(number, bits):
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> bits - 1 else number


def _trunc(a, b):
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


# (a, b, bits) of unsigned operands -> any integer that is the result modulo 2^bits
OPERATIONS = {
    "add": lambda a, b, n: a + b,
    "sub": lambda a, b, n: a - b,
    "mul": lambda a, b, n: a * b,
    "neg": lambda a, b, n: -a,
    "and": lambda a, b, n: a & b,
    "or": lambda a, b, n: a | b,
    "xor": lambda a, b, n: a ^ b,
    "lsh": lambda a, b, n: a << (b % n),
    "rsh": lambda a, b, n: a >> (b % n),
    "arsh": lambda a, b, n: signed(a, n) >> (b % n),
    "div": lambda a, b, n: a // b if b else 0,
    "mod": lambda a, b, n: a % b if b else a,
    "sdiv": lambda a, b, n: _trunc(signed(a, n), signed(b, n)) if b else 0,
    "smod": lambda a, b, n: (
        signed(a, n) - _trunc(signed(a, n), signed(b, n)) * signed(b, n) if b else a
    ),
}
COMPARISONS = {
    "eq": lambda a, b, n: a == b,
    "ne": lambda a, b, n: a != b,
    "gt": lambda a, b, n: a > b,
    "ge": lambda a, b, n: a >= b,
    "lt": lambda a, b, n: a < b,
    "le": lambda a, b, n: a <= b,
    "sgt": lambda a, b, n: signed(a, n) > signed(b, n),
    "sge": lambda a, b, n: signed(a, n) >= signed(b, n),
    "slt": lambda a, b, n: signed(a, n) < signed(b, n),
    "sle": lambda a, b, n: signed(a, n) <= signed(b, n),
    "set": lambda a, b, n: bool(a & b),
}


@cache
def tnums(bits):
    """Every tracked number of a width."""
    found = []
    for trits in product((0, 1, 2), repeat=bits):
        value = sum(1 << place for place, trit in enumerate(trits) if trit == 1)
        mask = sum(1 << place for place, trit in enumerate(trits) if trit == 2)
        found.append(Tnum(value, mask))
    return found


@cache
def of_tnum(known):
    """Set of a tracked number."""
    if not known.mask:
        return 1 << known.value
    bit = known.mask & -known.mask
    half = of_tnum(Tnum(known.value, known.mask & ~bit))
    return half | half << bit


def _span(low, high):
    return (1 << high + 1) - (1 << low)


@cache
def of_range(umin, umax, smin, smax, bits):
    """Set of the numbers of a width between bounds, unsigned and signed."""
    if umin > umax or smin > smax:
        return 0
    size = 1 << bits
    if smin >= 0 or smax < 0:
        low = _span(smin % size, smax % size)
    else:
        low = _span(0, smax) | _span(smin % size, size - 1)
    return _span(umin, umax) & low


@cache
def _repeated(low, bits):
    """Set of the numbers of a width whose low half is in a set."""
    found = 0
    for high in range(1 << bits // 2):
        found |= low << (high << bits // 2)
    return found


@cache
def of_scalar(known, bits):
    """Set of a Scalar of a domain of a width."""
    low = of_range(*known.narrow[:4], bits // 2)
    return of_tnum(known.tnum) & of_range(*known.wide[:4], bits) & _repeated(low, bits)


def members(numbers):
    """Numbers of a set, ascending."""
    while numbers:
        last = numbers & -numbers
        yield last.bit_length() - 1
        numbers ^= last


def images(op, left, right, bits):
    """Set of the results of an operation on members of two sets."""
    rule, ones, found = OPERATIONS[op], (1 << bits) - 1, 0
    others = list(members(right))
    for a in members(left):
        for b in others:
            found |= 1 << (rule(a, b, bits) & ones)
    return found
