# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arithmetic against an independent definition: C's, on fixed-width integers of ctypes."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.sim import alu

U64 = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1]),
)
UNSIGNED = {32: ctypes.c_uint32, 64: ctypes.c_uint64}
SIGNED = {32: ctypes.c_int32, 64: ctypes.c_int64}
EASY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "or": lambda a, b: a | b,
    "and": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
    "mov": lambda a, b: b,
}


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", EASY)
@settings(max_examples=60, derandomize=True, database=None)
@given(left=U64, right=U64)
def test_operation_wraps_like_c(name, bits, left, right):
    cut = UNSIGNED[bits]
    expected = cut(EASY[name](cut(left).value, cut(right).value)).value
    assert alu.alu(name, left, right, bits) == expected


@pytest.mark.parametrize("bits", [32, 64])
@settings(max_examples=150, derandomize=True, database=None)
@given(left=U64, right=U64)
def test_division_fits_its_remainder(bits, left, right):
    for div, mod, kind in (("div", "mod", UNSIGNED), ("sdiv", "smod", SIGNED)):
        a, b = kind[bits](left).value, kind[bits](right).value
        quotient = kind[bits](alu.alu(div, left, right, bits)).value
        remainder = kind[bits](alu.alu(mod, left, right, bits)).value
        if b == 0:
            assert (quotient, remainder) == (0, a)
        elif (a, b) == (-(1 << (bits - 1)), -1):
            assert (quotient, remainder) == (a, 0)
        else:
            assert quotient * b + remainder == a
            assert abs(remainder) < abs(b)
            assert remainder == 0 or (remainder < 0) == (a < 0)


@pytest.mark.parametrize("bits", [32, 64])
@settings(max_examples=100, derandomize=True, database=None)
@given(left=U64, shift=st.integers(0, 200))
def test_shift_counts_are_masked(bits, left, shift):
    count = shift % bits
    unsigned, signed = UNSIGNED[bits](left).value, SIGNED[bits](left).value
    assert alu.alu("lsh", left, shift, bits) == UNSIGNED[bits](unsigned << count).value
    assert alu.alu("rsh", left, shift, bits) == unsigned >> count
    assert alu.alu("arsh", left, shift, bits) == UNSIGNED[bits](signed >> count).value


@pytest.mark.parametrize("bits", [32, 64])
@settings(max_examples=150, derandomize=True, database=None)
@given(left=U64, right=U64)
def test_comparisons(bits, left, right):
    table = alu.COMPARE64 if bits == 64 else alu.COMPARE32
    a, b = UNSIGNED[bits](left).value, UNSIGNED[bits](right).value
    sa, sb = SIGNED[bits](left).value, SIGNED[bits](right).value
    seen = {name: holds(a, b) for name, holds in table.items()}
    assert seen == {
        "eq": a == b, "ne": a != b, "gt": a > b, "ge": a >= b, "lt": a < b, "le": a <= b,
        "set": a & b != 0, "sgt": sa > sb, "sge": sa >= sb, "slt": sa < sb, "sle": sa <= sb,
    }  # fmt: skip


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_swap_reverses_and_cuts(bits):
    given_value = 0x1122334455667788
    expected = {16: 0x8877, 32: 0x88776655, 64: 0x8877665544332211}[bits]
    assert alu.swap(given_value, bits) == expected


@pytest.mark.parametrize("table", [alu.ALU64, alu.COMPARE64])
def test_nothing_is_never_an_operand(table):
    """The machine tells an empty register by the TypeError of the operation."""
    for name, operation in table.items():
        if name != "mov":
            with pytest.raises(TypeError):
                operation(None, 1)
