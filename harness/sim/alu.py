# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arithmetic and comparison of the instruction set, as functions of whole numbers.

Owns the results of every ALU, jump and byte-swap operation: values are unsigned 64-bit in and
out. Source: RFC 9669, sections 4.1 to 4.3. Knows no registers and no memory.
"""

from collections.abc import Callable

M64 = 0xFFFF_FFFF_FFFF_FFFF
M32 = 0xFFFF_FFFF

Binary = Callable[[int, int], int]
Compare = Callable[[int, int], bool]


def signed(value: int, bits: int = 64) -> int:
    """Low `bits` of `value`, read as two's complement."""
    half = 1 << (bits - 1)
    return ((value & ((1 << bits) - 1)) ^ half) - half


def _quotient(left: int, right: int) -> int:
    """Signed division that truncates towards zero."""
    result = abs(left) // abs(right)
    return result if (left < 0) == (right < 0) else -result


def _div(left: int, right: int) -> int:
    return left // right if right else 0


def _mod(left: int, right: int) -> int:
    return left % right if right else left


def _sdiv(bits: int) -> Binary:
    def divide(left: int, right: int) -> int:
        divisor = signed(right, bits)
        return _quotient(signed(left, bits), divisor) if divisor else 0

    return divide


def _smod(bits: int) -> Binary:
    def modulo(left: int, right: int) -> int:
        dividend, divisor = signed(left, bits), signed(right, bits)
        return dividend - divisor * _quotient(dividend, divisor) if divisor else dividend

    return modulo


def _table(bits: int) -> dict[str, Binary]:
    """Operations on operands that are already cut to `bits`; results are cut by the caller."""
    shift = bits - 1
    return {
        "add": lambda left, right: left + right,
        "sub": lambda left, right: left - right,
        "mul": lambda left, right: left * right,
        "div": _div,
        "mod": _mod,
        "sdiv": _sdiv(bits),
        "smod": _smod(bits),
        "or": lambda left, right: left | right,
        "and": lambda left, right: left & right,
        "xor": lambda left, right: left ^ right,
        "lsh": lambda left, right: left << (right & shift),
        "rsh": lambda left, right: left >> (right & shift),
        "arsh": lambda left, right: signed(left, bits) >> (right & shift),
        "mov": lambda _left, right: right,
    }


ALU64: dict[str, Binary] = _table(64)
ALU32: dict[str, Binary] = _table(32)


def _compare_table(bits: int) -> dict[str, Compare]:
    """Conditions on operands that are already cut to `bits`.

    Equality is a difference, so that an operand that is no number raises TypeError like in all
    other operations.
    """
    return {
        "eq": lambda left, right: left - right == 0,
        "ne": lambda left, right: left - right != 0,
        "gt": lambda left, right: left > right,
        "ge": lambda left, right: left >= right,
        "lt": lambda left, right: left < right,
        "le": lambda left, right: left <= right,
        "set": lambda left, right: bool(left & right),
        "sgt": lambda left, right: signed(left, bits) > signed(right, bits),
        "sge": lambda left, right: signed(left, bits) >= signed(right, bits),
        "slt": lambda left, right: signed(left, bits) < signed(right, bits),
        "sle": lambda left, right: signed(left, bits) <= signed(right, bits),
    }


COMPARE64: dict[str, Compare] = _compare_table(64)
COMPARE32: dict[str, Compare] = _compare_table(32)


def alu(name: str, left: int, right: int, bits: int) -> int:
    """Result of one operation, zero-extended to 64 bits."""
    mask = (1 << bits) - 1
    table = ALU64 if bits == 64 else ALU32
    return table[name](left & mask, right & mask) & mask


def swap(value: int, bits: int) -> int:
    """Low `bits` of `value` with the bytes reversed, zero-extended."""
    size = bits // 8
    return int.from_bytes((value & ((1 << bits) - 1)).to_bytes(size, "little"), "big")
