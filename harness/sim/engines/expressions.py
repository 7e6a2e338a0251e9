# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arithmetic and conditions as Python text, for engines that make Python functions of them.

Operands a and b are register values of 64 bits. Owns the text of what programs do most; the rest,
and what every operation means, is harness.sim.alu's, and a test holds the two against each other.
An operand that is no number must raise TypeError whatever the other one is.
"""

# result of 64 bits; "& M64" where it may be longer or negative
ALU64 = {
    "add": "{a} + {b} & M64",
    "sub": "{a} - {b} & M64",
    "mul": "{a} * {b} & M64",
    "or": "{a} | {b}",
    "and": "{a} & {b}",
    "xor": "{a} ^ {b}",
    "lsh": "{a} << ({b} & 63) & M64",
    "rsh": "{a} >> ({b} & 63)",
    "mov": "{b} & M64",
}
# result of 32 bits
ALU32 = {
    "add": "{a} + {b} & M32",
    "sub": "{a} - {b} & M32",
    "mul": "{a} * {b} & M32",
    "or": "({a} | {b}) & M32",
    "and": "{a} & {b} & M32",
    "xor": "({a} ^ {b}) & M32",
    "lsh": "{a} << ({b} & 31) & M32",
    "rsh": "({a} & M32) >> ({b} & 31)",
    "mov": "{b} & M32",
}
# a condition; equality by a difference, because None is equal to None
JUMP64 = {
    "eq": "not {a} ^ {b}",
    "ne": "{a} ^ {b}",
    "gt": "{a} > {b}",
    "ge": "{a} >= {b}",
    "lt": "{a} < {b}",
    "le": "{a} <= {b}",
    "set": "{a} & {b}",
    # flipping the sign bit makes signed order of unsigned order
    "sgt": "({a} ^ S64) > ({b} ^ S64)",
    "sge": "({a} ^ S64) >= ({b} ^ S64)",
    "slt": "({a} ^ S64) < ({b} ^ S64)",
    "sle": "({a} ^ S64) <= ({b} ^ S64)",
}
JUMP32 = {
    "eq": "not ({a} ^ {b}) & M32",
    "ne": "({a} ^ {b}) & M32",
    "gt": "({a} & M32) > ({b} & M32)",
    "ge": "({a} & M32) >= ({b} & M32)",
    "lt": "({a} & M32) < ({b} & M32)",
    "le": "({a} & M32) <= ({b} & M32)",
    "set": "{a} & {b} & M32",
    "sgt": "(({a} & M32) ^ S32) > (({b} & M32) ^ S32)",
    "sge": "(({a} & M32) ^ S32) >= (({b} & M32) ^ S32)",
    "slt": "(({a} & M32) ^ S32) < (({b} & M32) ^ S32)",
    "sle": "(({a} & M32) ^ S32) <= (({b} & M32) ^ S32)",
}
NAMES = {
    "M64": (1 << 64) - 1,
    "M32": (1 << 32) - 1,
    "S64": 1 << 63,
    "S32": 1 << 31,
}
