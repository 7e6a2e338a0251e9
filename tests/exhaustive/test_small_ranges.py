# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every range and every tracked number of a width: what tests/verify takes a choice of.

    make test-exhaustive                       # 6 bits: ten minutes on an idle machine
    make test-exhaustive BITS=8                # a quarter of an hour for each of 130 tests

A range's results are those of the range without its last number and of that number, so that each
step adds one; an unknown bit's results are those of its two values.
"""

import os
from functools import cache

import pytest
from small_numbers import COMPARISONS, OPERATIONS, of_scalar, of_tnum, tnums

from harness.verify import tnum
from harness.verify.branches import REVERSED
from harness.verify.precision import PRECISIONS
from harness.verify.scalar import Domain
from harness.verify.tnum import Tnum

SERIES = ("6.12", "6.18", "7.3")
BITS = int(os.environ.get("EXHAUSTIVE_BITS", "6"))
NUMBERS = 1 << BITS
ONES = NUMBERS - 1


@cache
def domain_of(series):
    return Domain(PRECISIONS[series], BITS)


def every_range(domain):
    """(lowest, every Scalar that begins there with the numbers it adds), unsigned and signed."""
    full = domain.unknown
    for kind in (domain.wide.unsigned, domain.wide.signed):
        first = 0 if kind == domain.wide.unsigned else -(NUMBERS >> 1)
        for low in range(first, first + NUMBERS):
            grown = (
                (high & ONES, domain.sync(full.tnum, kind(low, high), full.narrow))
                for high in range(low, first + NUMBERS)
            )
            yield low, grown


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("series", SERIES)
def test_alu_of_every_range_and_constant(series, op):
    domain, rule = domain_of(series), OPERATIONS[op]
    constants = range(BITS) if op in ("lsh", "rsh", "arsh") else range(NUMBERS)
    constants = (0,) if op == "neg" else constants
    operands = [domain.known(number) for number in constants]
    for _, grown in every_range(domain):
        reached = [0] * len(operands)
        for number, a in grown:
            for place, b in enumerate(operands):
                reached[place] |= 1 << (rule(number, b.value, BITS) & ONES)
                result = domain.alu(op, a, b, BITS)
                assert not reached[place] & ~of_scalar(result, BITS), f"{a} {op} {b} = {result}"


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("series", SERIES)
def test_branch_of_every_range_and_constant(series, op):
    domain, rule = domain_of(series), COMPARISONS[op]
    operands = [domain.known(number) for number in range(NUMBERS)]
    for _, grown in every_range(domain):
        held, failed = [0] * NUMBERS, [0] * NUMBERS
        for number, a in grown:
            for place, b in enumerate(operands):
                if rule(number, place, BITS):
                    held[place] |= 1 << number
                else:
                    failed[place] |= 1 << number
                answer = domain.decide(op, a, b, BITS)
                assert answer is None or not (failed if answer else held)[place], (a, op, b)
                if answer is None:
                    for what, numbers in ((op, held), (REVERSED[op], failed)):
                        kept = of_scalar(domain.learn(what, a, b, BITS)[0], BITS)
                        assert not numbers[place] & ~kept, f"{a} {what} {b}"


@pytest.mark.parametrize("name", ["add", "sub", "bit_and", "bit_or", "bit_xor", "mul", "mul_split"])
def test_every_pair_of_tracked_numbers(name):
    function = getattr(tnum, name)
    wraps = name in ("add", "sub", "mul", "mul_split")
    rule = OPERATIONS[name.removeprefix("bit_").partition("_")[0]]
    ordered = sorted(tnums(BITS), key=lambda each: each.mask.bit_count())
    for b in ordered:
        reached = {}
        others = [n for n in range(NUMBERS) if b.contains(n)]
        for a in ordered:
            if a.is_const:
                found = 0
                for number in others:
                    found |= 1 << (rule(a.value, number, BITS) & ONES)
            else:
                bit = a.mask & -a.mask
                rest = a.mask & ~bit
                found = reached[Tnum(a.value, rest)] | reached[Tnum(a.value | bit, rest)]
            reached[a] = found
            result = function(a, b, ONES) if wraps else function(a, b)
            assert not found & ~of_tnum(result), f"{a} {name} {b} = {result}"
