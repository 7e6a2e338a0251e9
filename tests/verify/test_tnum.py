# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Tracked numbers: every operation, by trying all numbers that there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_numbers import OPERATIONS, images, members, of_tnum, tnums

from harness.verify import tnum
from harness.verify.tnum import U64, Tnum

BINARY = {
    "add": tnum.add,
    "sub": tnum.sub,
    "and": lambda a, b, ones: tnum.bit_and(a, b),
    "or": lambda a, b, ones: tnum.bit_or(a, b),
    "xor": lambda a, b, ones: tnum.bit_xor(a, b),
    "mul": tnum.mul,
    "mul_split": tnum.mul_split,
}
# proven to be the best that bits can say
TIGHT = ("add", "sub", "and", "or", "xor")


def tightest(numbers):
    found = list(members(numbers))
    known = Tnum(found[0], 0)
    for number in found[1:]:
        known = tnum.union(known, Tnum(number, 0))
    return known


@pytest.mark.parametrize("op", BINARY)
def test_all_pairs_of_four_bits(op):
    """Soundness against trying, for 81 * 81 operands; and tightness."""
    apply, concrete = BINARY[op], op.partition("_")[0]
    table = {
        (a, b): images(concrete, of_tnum(a), of_tnum(b), 4) for a in tnums(4) for b in tnums(4)
    }
    for (a, b), expected in table.items():
        result = apply(a, b, 15)
        assert not result.value & result.mask
        assert not expected & ~of_tnum(result), f"{a} {op} {b} = {result}"
        if op in TIGHT:
            assert result == tightest(expected)


@pytest.mark.parametrize("op", BINARY)
def test_eight_bits_and_every_constant(op):
    """6561 operands; what is true of a bit's two values is true of the unknown bit."""
    rule = OPERATIONS[op.partition("_")[0]]
    apply = BINARY[op]
    for number in (*range(0, 256, 37), 1, 2, 127, 128, 255):
        for turned in (False, True):
            reached = {}
            for a in sorted(tnums(8), key=lambda each: each.mask.bit_count()):
                if a.is_const:
                    pair = (number, a.value) if turned else (a.value, number)
                    reached[a] = 1 << (rule(*pair, 8) & 255)
                else:
                    bit = a.mask & -a.mask
                    rest = a.mask & ~bit
                    reached[a] = reached[Tnum(a.value, rest)] | reached[Tnum(a.value | bit, rest)]
                constant = Tnum(number, 0)
                result = apply(constant, a, 255) if turned else apply(a, constant, 255)
                assert not reached[a] & ~of_tnum(result), f"{a} {op} {number} = {result}"


def test_eight_bits_alone():
    for a in tnums(8):
        numbers = list(members(of_tnum(a)))
        assert numbers == [each for each in range(256) if a.contains(each)]
        assert (a.value, a.highest) == (numbers[0], numbers[-1])
        for count in range(8):
            assert tnum.shift_left(a, count, 255) == tightest_of(n << count & 255 for n in numbers)
            assert tnum.shift_right(a, count) == tightest_of(n >> count for n in numbers)
            assert tnum.shift_right_signed(a, count, 255) == tightest_of(
                (n - 256 if n & 128 else n) >> count & 255 for n in numbers
            )
        assert a.aligned(4) == all(n % 4 == 0 for n in numbers)
        assert tnum.truncate(a, 15) == tightest_of(n & 15 for n in numbers)


def tightest_of(numbers):
    found = 0
    for number in numbers:
        found |= 1 << number
    return tightest(found)


def test_above():
    """The next number, for each of 256."""
    for a in tnums(8):
        numbers = list(members(of_tnum(a)))
        for number in range(256):
            expected = next((each for each in numbers if each > number), None)
            assert tnum.above(a, number) == expected


def test_sets_of_five_bits():
    for a in tnums(5):
        for b in tnums(5):
            left, right = of_tnum(a), of_tnum(b)
            assert a.covers(b) == (not right & ~left)
            assert a.overlaps(b) == bool(left & right)
            assert tnum.union(a, b) == tightest(left | right)
            if left & right:
                assert of_tnum(tnum.intersect(a, b)) == left & right


def test_between():
    for low in range(256):
        for high in range(low, 256):
            expected = tnum.union(Tnum(low, 0), Tnum(high, 0))
            found = tnum.between(low, high)
            assert found.covers(expected)
            # all numbers between agree on the bits in front of the first that differs
            assert found.mask == (1 << (low ^ high).bit_length()) - 1


@st.composite
def wide(draw):
    mask = draw(st.integers(0, U64))
    value = draw(st.integers(0, U64)) & ~mask
    return Tnum(value, mask), value | draw(st.integers(0, U64)) & mask


@pytest.mark.parametrize("op", BINARY)
@given(left=wide(), right=wide())
def test_sixty_four_bits(op, left, right):
    (a, x), (b, y) = left, right
    number = OPERATIONS[op.partition("_")[0]](x, y, 64) & U64
    assert BINARY[op](a, b, U64).contains(number)


@given(given=wide(), size=st.sampled_from([2, 4, 8]))
def test_swap(given, size):
    a, x = given
    low = x & (1 << 8 * size) - 1
    assert tnum.swapped(a, size).contains(int.from_bytes(low.to_bytes(size, "little"), "big"))


def test_text():
    assert str(Tnum(0x10, 0xF)) == "(0x10; 0xf)"
