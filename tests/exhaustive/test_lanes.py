# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A million calls at once give what the calls give one by one."""

import operator
from typing import NamedTuple

import lanes
import numpy as np
import pytest
from lanes import distinct, joined, largest, once, smallest, through

SMALL = np.arange(-9, 10)
A, B = (each.ravel() for each in np.meshgrid(SMALL, SMALL))


class Pair(NamedTuple):
    first: int
    second: int


def one_by_one(function, *columns):
    return [function(*(int(each) for each in row)) for row in zip(*columns, strict=True)]


OPERATORS = ["and_", "or_", "xor", "add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "ne"]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("number", [None, -3, 0, 5])
def test_operators(name, number):
    """Of two lanes, and of a lane and an integer on either side."""
    function = getattr(operator, name)

    def both(a, b):
        return function(a, b if number is None else number), function(
            a if number is None else number, b
        )

    made = through(both, (A, B))
    assert list(zip(*made, strict=True)) == one_by_one(both, A, B)


def branching(a, b):
    """Division toward zero, shifts, truth values as numbers, and a loop."""
    if b:
        quotient = abs(a) // abs(b)
        made = quotient if (a < 0) == (b < 0) else -quotient
    else:
        made = (~a & 15) << 2 >> 1
    places = 0
    while made > 3 and places < 4:
        made -= b if b > 0 and a <= 7 else 1
        places += 1
    return Pair(made + (a == b) + (not a), (places, abs(b).bit_length(), (a & 31).bit_count()))


@pytest.mark.parametrize("around", [lambda each: each, joined, distinct])
def test_every_lane_goes_its_own_way(around):
    """Inside a call that parts lanes itself, too."""
    inner = around(branching)

    def outer(a, b):
        if a > b:
            return inner(b, a)
        return Pair(*inner(a, b)) if a & 1 else inner(a, 2)

    made = through(outer, (A, B))
    expected = one_by_one(outer, A, B)
    assert [lanes.one(made, place) for place in range(A.size)] == expected
    # the function is also called as it always is
    assert inner(7, -2) == branching(7, -2)


def test_once():
    """Calls with arguments that were there before are not made again."""
    seen = []

    def function(a, pair):
        seen.append(a.now().size)
        return Pair(a + pair.first, 3 if pair.second > a else pair.second)

    rule = once(function)
    first, second = A + 9, B + 9
    for _ in range(2):
        made = through(lambda a, b: rule(a, Pair(b, 4)), (first, second))
        expected = [(a + b, 3 if a < 4 else 4) for a, b in zip(first, second, strict=True)]
        assert list(zip(*made, strict=True)) == expected
    assert sum(seen) < 2 * A.size


@pytest.mark.parametrize(("ours", "theirs"), [(largest, max), (smallest, min)])
def test_extremes(ours, theirs):
    """As max() and min(), whose comparisons would part the lanes."""
    calls = []

    def function(a, b):
        calls.append(a)
        return ours(1, 2, a), ours([b, a, -4]), ours(5, 3)

    made = through(function, (A, B))
    assert len(calls) == 1
    expected = one_by_one(lambda a, b: (theirs(1, 2, a), theirs(b, a, -4), theirs(5, 3)), A, B)
    assert list(zip(*made, strict=True)) == expected


def test_results_of_two_shapes_are_refused():
    with pytest.raises(AssertionError, match="different shapes"):
        through(lambda a: (a, a) if a > 0 else a, (SMALL,))


def test_lanes_do_not_leave_their_call():
    kept = []
    through(lambda a: kept.append(a) or a, (SMALL,))
    with pytest.raises(AssertionError, match="another call"):
        through(lambda a: a + kept[0], (SMALL,))
