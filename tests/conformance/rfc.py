# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The arithmetic of RFC 9669, written down a second time, for expected results only.

Shares no code with harness: what the generator computes here is held against what the engines
compute. Numbers go in and come out as unsigned; `bits` is 32 or 64; a result of 32 bits is
zero-extended (section 4.1: "the upper 32 bits of the destination are zeroed").
"""

M64 = 2**64 - 1
M32 = 2**32 - 1


def to_signed(number, bits):
    number %= 2**bits
    return number - 2**bits if number >= 2 ** (bits - 1) else number


def widen(imm, bits):
    """An immediate of 32 bits as an operand: sign-extended to 64, or taken as it is for 32."""
    return to_signed(imm, 32) % 2**bits


def towards_zero(left, right):
    """Quotient and remainder of two signed numbers; the remainder has the dividend's sign."""
    quotient, remainder = divmod(abs(left), abs(right))
    return (
        -quotient if (left < 0) != (right < 0) else quotient,
        -remainder if left < 0 else remainder,
    )


def alu(name, left, right, bits):
    """Section 4.1, table 5: what is left in the destination."""
    a, b = left % 2**bits, right % 2**bits
    sa, sb = to_signed(a, bits), to_signed(b, bits)
    shift = b & (bits - 1)
    result = {
        "add": lambda: a + b,
        "sub": lambda: a - b,
        "mul": lambda: a * b,
        "div": lambda: a // b if b else 0,
        "sdiv": lambda: towards_zero(sa, sb)[0] if b else 0,
        "mod": lambda: a % b if b else a,
        "smod": lambda: towards_zero(sa, sb)[1] if b else a,
        "or": lambda: a | b,
        "and": lambda: a & b,
        "xor": lambda: a ^ b,
        "mov": lambda: b,
        "lsh": lambda: a << shift,
        "rsh": lambda: a >> shift,
        "arsh": lambda: sa >> shift,
    }[name]()
    return result % 2**bits


def holds(name, left, right, bits):
    """Section 4.3, table 8: whether the jump is taken."""
    a, b = left % 2**bits, right % 2**bits
    sa, sb = to_signed(a, bits), to_signed(b, bits)
    return {
        "jeq": a == b, "jne": a != b, "jset": a & b != 0,
        "jgt": a > b, "jge": a >= b, "jlt": a < b, "jle": a <= b,
        "jsgt": sa > sb, "jsge": sa >= sb, "jslt": sa < sb, "jsle": sa <= sb,
    }[name]  # fmt: skip


def reverse(number, bits):
    """Section 4.2: the low `bits` with their bytes in the other order."""
    result = 0
    for _ in range(bits // 8):
        result = result << 8 | (number & 0xFF)
        number >>= 8
    return result


def extend(number, width, bits):
    """Section 4.1, MOVSX; section 5.2, sign-extension loads."""
    return to_signed(number, width) % 2**bits


def cell(data, offset, size):
    """Section 5: a value in memory; the vectors are for little-endian machines."""
    return sum(data[offset + index] << 8 * index for index in range(size))


def with_cell(data, offset, size, number):
    """Memory after a store."""
    stored = bytes(number >> 8 * index & 0xFF for index in range(size))
    return data[:offset] + stored + data[offset + size :]
