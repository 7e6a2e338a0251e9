# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Vectors of arithmetic, moves and byte swaps (RFC 9669, sections 4.1 and 4.2)."""

from conformance.rfc import M32, M64, alu, extend, reverse, to_signed, widen
from conformance.spec import Spec, put

SECTION = "RFC 9669, section 4.1"
SHIFTS = ("lsh", "rsh", "arsh")
DIVISIONS = ("div", "mod", "sdiv", "smod")
OPERATIONS = ("add", "sub", "mul", "or", "and", "xor", "mov", *DIVISIONS, *SHIFTS)
LEAST = {32: 0x8000_0000, 64: 0x8000_0000_0000_0000}
MOST = {32: 0x7FFF_FFFF, 64: 0x7FFF_FFFF_FFFF_FFFF}
ONES = {32: M32, 64: M64}
# above the low 32 bits, so that a result that keeps them shows
HIGH = 0xA5A5_5A5A << 32


def _pairs(name, bits):
    """(kind, left, right) that every operation gets, by register and by constant."""
    typical = {32: 0x1234_5678, 64: 0x0123_4567_89AB_CDEF}[bits]
    least, most, ones = LEAST[bits], MOST[bits], ONES[bits]
    if name in SHIFTS:
        return [
            ("typical", typical, 5),
            ("zero", 0, 3),
            ("all-ones", ones, 4),
            ("sign-boundary", least, 1),
            ("sign-boundary-most", most, 1),
            ("edge-by-0", typical, 0),
            (f"edge-by-{bits - 1}", ones, bits - 1),
        ]
    if name in DIVISIONS:
        return [
            ("typical", typical, 0x1F3),
            ("zero", 0, 7),
            ("all-ones", ones, ones),
            ("sign-boundary", least, 3),
            ("sign-boundary-most", most, 3),
            ("edge-by-one", typical, 1),
            ("edge-least-by-minus-one", least, ones),
            ("edge-negative-by-positive", ones - 6, 3),
            ("edge-positive-by-negative", 7, ones - 2),
            ("edge-negative-by-negative", ones - 6, ones - 2),
            ("edge-smaller-dividend", 3, 0x1000),
        ]
    return [
        ("typical", typical, 0x1357_9BDF),
        ("zero", typical, 0),
        ("all-ones", ones, ones),
        ("sign-boundary", most, 1),
        ("sign-boundary-least", least, ones),
    ]


def _register_pairs(name, bits):
    """Beyond what a verifier takes as a constant; RFC 9669 says what comes out."""
    typical = {32: 0x1234_5678, 64: 0x0123_4567_89AB_CDEF}[bits]
    if name in SHIFTS:
        return [
            (f"edge-by-{bits}-masked", typical, bits),
            (f"edge-by-{bits + 1}-masked", typical, bits + 1),
            ("edge-by-all-ones-masked", typical, M64),
        ]
    if name in DIVISIONS:
        return [("edge-by-zero", typical, 0), ("edge-least-by-zero", LEAST[bits], 0)]
    return [("sign-boundary-both-least", LEAST[bits], LEAST[bits])]


def operations():
    for name in OPERATIONS:
        for bits in (32, 64):
            group, mnemonic = f"{name}{bits}", name if bits == 64 else f"{name}32"
            pairs = _pairs(name, bits)
            for kind, left, right in pairs + _register_pairs(name, bits):
                yield _register(group, mnemonic, name, bits, kind, left, right)
            for kind, left, right in pairs + _register_pairs(name, bits):
                if to_signed(right, 32) % 2**bits != right % 2**bits and right != M64:
                    continue  # no constant of 32 bits
                yield _constant(group, mnemonic, name, bits, kind, left, right)
            if bits == 32:
                left, right = pairs[0][1:]
                yield _register(group, mnemonic, name, 32, "zext", HIGH | left, HIGH | right)
                yield _constant(group, mnemonic, name, 32, "zext", HIGH | left, right)
            else:
                right = 1 if name in SHIFTS else -2
                kind = "sign-boundary-negative-constant"
                if name not in SHIFTS:
                    yield _constant(group, mnemonic, name, 64, kind, 0x1234_5678_9ABC, right)
            yield _same(group, mnemonic, name, bits)


def _register(group, mnemonic, name, bits, kind, left, right):
    return Spec(
        f"{group}/reg-{kind}",
        f"{mnemonic} of two registers: 0x{left:x}, 0x{right:x}",
        asm=(put(0, left), put(1, right), f"{mnemonic} %r0, %r1", "exit"),
        result=alu(name, left, right, bits),
        source=SECTION,
    )


def _constant(group, mnemonic, name, bits, kind, left, right):
    imm = to_signed(right, 32)
    return Spec(
        f"{group}/imm-{kind}",
        f"{mnemonic} of a register and a constant: 0x{left:x}, {imm}",
        asm=(put(0, left), f"{mnemonic} %r0, {imm}", "exit"),
        result=alu(name, left, widen(imm, bits), bits),
        source=SECTION,
    )


def _same(group, mnemonic, name, bits):
    """Both operands in one register."""
    number = 0x0000_0021_8000_0043
    return Spec(
        f"{group}/reg-typical-same-register",
        f"{mnemonic} of a register and itself",
        asm=(put(0, number), f"{mnemonic} %r0, %r0", "exit"),
        result=alu(name, number, number, bits),
        source=SECTION,
    )


_NUMBERS = {
    "typical": 0x0123_4567_89AB_CDEF,
    "zero": 0,
    "all-ones": M64,
    "sign-boundary-8": 0x80,
    "sign-boundary-8-most": 0x7F,
    "sign-boundary-16": 0x8000,
    "sign-boundary-16-most": 0x7FFF,
    "sign-boundary-32": 0x8000_0000,
    "sign-boundary-32-most": 0x7FFF_FFFF,
    "sign-boundary-64": LEAST[64],
    "zext": 0xFFFF_FFFF_0000_0000,
    "zext-low": 0xFFFF_FFFF_1111_1101,
}


def negations():
    for bits in (32, 64):
        mnemonic = "neg" if bits == 64 else "neg32"
        for kind in ("typical", "zero", "all-ones", "sign-boundary-32", "sign-boundary-64", "zext"):
            number = _NUMBERS[kind]
            yield Spec(
                f"neg{bits}/reg-{kind}",
                f"{mnemonic} of 0x{number:x}",
                asm=(put(0, number), f"{mnemonic} %r0", "exit"),
                result=-number % 2**bits,
                source=SECTION,
            )


def sign_extending_moves():
    for width, bits in ((8, 32), (16, 32), (8, 64), (16, 64), (32, 64)):
        kinds = ("typical", "zero", "all-ones", "zext", "zext-low")
        for kind in (*kinds, f"sign-boundary-{width}", f"sign-boundary-{width}-most"):
            number = _NUMBERS[kind]
            yield Spec(
                f"movsx{width}to{bits}/reg-{kind}",
                f"low {width} bits of 0x{number:x}, sign-extended to {bits}",
                asm=(put(0, M64), put(1, number), f"movsx{width}{bits} %r0, %r1", "exit"),
                result=extend(number, width, bits),
                source=SECTION,
            )


def byte_swaps():
    kinds = ("typical", "zero", "all-ones", "sign-boundary-8", "sign-boundary-64", "zext-low")
    for name in ("le", "be", "bswap"):
        for bits in (16, 32, 64):
            for kind in kinds:
                number = _NUMBERS[kind]
                low = number % 2**bits
                yield Spec(
                    f"{name}{bits}/reg-{kind}",
                    f"{name}{bits} of 0x{number:x}, on a little-endian machine",
                    asm=(put(0, number), f"{name}{bits} %r0", "exit"),
                    result=low if name == "le" else reverse(low, bits),
                    source="RFC 9669, section 4.2",
                )


def cases():
    for part in (operations, negations, sign_extending_moves, byte_swaps):
        yield from part()
