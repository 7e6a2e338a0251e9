# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Vectors of loads, stores and atomic operations (RFC 9669, section 5)."""

from conformance.rfc import M64, alu, cell, extend, to_signed, with_cell
from conformance.spec import Spec, put

SIZES = {"b": 1, "h": 2, "w": 4, "dw": 8}
SIZE_CODES = {"w": 0x00, "h": 0x08, "b": 0x10, "dw": 0x18}
CELLS = {
    "typical": bytes.fromhex("efcdab8967452301"),
    "zero": bytes(8),
    "all-ones": b"\xff" * 8,
}
# what stands around the cell, so that a wrong width or place shows
BEFORE, AFTER = b"\x5a\xa5\x3c\xc3\x96\x69\x0f\xf0", b"\x11\x22\x33\x44\x55\x66\x77\x88"
ACQUIRE = "Linux kernel commit 880442305a39 (in v6.15)"


def _group(mnemonic, bits):
    """Name of the instruction with the width in bits: "ldxsb" is "ldxs8"."""
    return mnemonic.rstrip("bhwd" if mnemonic.endswith("dw") else mnemonic[-1]) + str(bits)


def _cells(size):
    """(kind, eight bytes whose first `size` are looked at)."""
    yield from CELLS.items()
    yield "sign-boundary", bytes(size - 1) + b"\x80" + b"\xee" * (8 - size)
    yield "sign-boundary-most", b"\xff" * (size - 1) + b"\x7f" + b"\xee" * (8 - size)


def loads():
    for name, size in SIZES.items():
        for kind, data in _cells(size):
            yield _load(f"ldx{name}", 8 * size, kind, data, cell(data, 0, size), "5.1")
            if name != "dw":
                signed = extend(cell(data, 0, size), 8 * size, 64)
                yield _load(f"ldxs{name}", 8 * size, kind, data, signed, "5.2")
        yield from _places(name, size)


def _load(mnemonic, bits, kind, data, result, section):
    return Spec(
        f"{_group(mnemonic, bits)}/mem-{kind}",
        f"{mnemonic} of {data.hex(' ')}",
        memory=BEFORE + data + AFTER,
        asm=(put(0, M64), f"{mnemonic} %r0, [%r1+8]", "exit"),
        result=result,
        source=f"RFC 9669, section {section}",
    )


def _places(name, size):
    for mnemonic in (f"ldx{name}", *([f"ldxs{name}"] if name != "dw" else [])):
        signed = mnemonic.startswith("ldxs")
        section = "5.2" if signed else "5.1"
        data = bytes(range(0x70, 0x88))
        bits = 8 * size
        for kind, says, asm, offset in (
            ("typical-same-register", "destination and base are one register",
             (f"{mnemonic} %r1, [%r1+16]", "mov %r0, %r1", "exit"), 16),
            ("typical-negative-offset", "offset -8",
             ("add %r1, 16", f"{mnemonic} %r0, [%r1-8]", "exit"), 8),
            ("edge-first", "the first bytes", (f"{mnemonic} %r0, [%r1+0]", "exit"), 0),
            ("edge-last", "the last bytes", (f"{mnemonic} %r0, [%r1+{24 - size}]", "exit"),
             24 - size),
            ("edge-unaligned", "an odd address", (f"{mnemonic} %r0, [%r1+13]", "exit"), 13),
        ):  # fmt: skip
            value = cell(data, offset, size)
            yield Spec(
                f"{_group(mnemonic, bits)}/mem-{kind}",
                says,
                memory=data,
                asm=asm,
                result=extend(value, bits, 64) if signed else value,
                source=f"RFC 9669, section {section}",
            )


def stores():
    numbers = {
        "typical": 0x0123_4567_89AB_CDEF,
        "zero": 0,
        "all-ones": M64,
        "zext": 0xFFFF_FFFF_0000_0000,
    }
    for name, size in SIZES.items():
        top = 1 << 8 * size - 1
        kinds = {**numbers, "sign-boundary": top, "sign-boundary-most": top - 1}
        for kind, number in kinds.items():
            yield _stored(f"stx{8 * size}/reg-{kind}", f"stx{name}", size, number, "%r2")
        for kind, number in (
            ("typical", 0x1234_5678), ("zero", 0), ("all-ones", -1),
            ("sign-boundary", -0x8000_0000), ("sign-boundary-most", 0x7FFF_FFFF),
        ):  # fmt: skip
            yield _stored(
                f"st{8 * size}/imm-{kind}", f"st{name}", size, number % 2**64, str(number)
            )
        for offset in (0, 13, 24 - size):
            after = with_cell(BEFORE + CELLS["zero"] + AFTER, offset, size, 0x7766_5544_3322_1100)
            yield Spec(
                f"stx{8 * size}/reg-edge-at-{offset}",
                f"stx{name} at offset {offset}; the three words are added up",
                memory=BEFORE + CELLS["zero"] + AFTER,
                asm=(put(2, 0x7766_5544_3322_1100), f"stx{name} [%r1+{offset}], %r2",
                     "ldxdw %r0, [%r1+0]", "ldxdw %r2, [%r1+8]", "add %r0, %r2",
                     "ldxdw %r2, [%r1+16]", "add %r0, %r2", "exit"),
                result=sum(cell(after, at, 8) for at in (0, 8, 16)) % 2**64,
                source="RFC 9669, section 5.1",
            )  # fmt: skip
        yield Spec(
            f"st{8 * size}/imm-typical-stack",
            f"st{name} to the stack and back",
            asm=("stdw [%r10-8], -1", f"st{name} [%r10-8], 0x21", "ldxdw %r0, [%r10-8]", "exit"),
            result=cell(with_cell(CELLS["all-ones"], 0, size, 0x21), 0, 8),
            source="RFC 9669, section 5.1",
        )


def _stored(name, mnemonic, size, number, operand):
    before = BEFORE + bytes.fromhex("c1c2c3c4c5c6c7c8") + AFTER
    load = (put(2, number),) if operand == "%r2" else ()
    return Spec(
        name,
        f"{mnemonic} of 0x{number:x} leaves its neighbours alone",
        memory=before,
        asm=(*load, f"{mnemonic} [%r1+8], {operand}", "ldxdw %r0, [%r1+8]", "exit"),
        result=cell(with_cell(before, 8, size, number), 8, 8),
        source="RFC 9669, section 5.1",
    )


def wide_constants():
    kinds = {
        "typical": 0x0123_4567_89AB_CDEF, "zero": 0, "all-ones": M64,
        "sign-boundary": 1 << 63, "sign-boundary-most": (1 << 63) - 1,
        "sign-boundary-low-half": 0x8000_0000, "zext-high-half": 0xFFFF_FFFF_0000_0000,
        "zext-low-half": 0xFFFF_FFFF,
    }  # fmt: skip
    for kind, number in kinds.items():
        yield Spec(f"lddw/imm-{kind}", f"lddw of 0x{number:x}", asm=(put(0, number), "exit"),
                   result=number, source="RFC 9669, section 5.4")  # fmt: skip
    yield Spec(
        "lddw/imm-edge-jump-over",
        "it takes two places: a jump over it has distance 2",
        asm=("mov %r0, 1", "ja +2", put(0, M64), "exit"),
        result=1,
        source="RFC 9669, section 5.4",
    )


def atomics():
    for name in ("add", "or", "and", "xor", "xchg", "cmpxchg"):
        for bits in (32, 64):
            for fetch in (False, True) if name in ("add", "or", "and", "xor") else (True,):
                for kind, old, given in _atomic_pairs(bits):
                    yield from _atomic(name, bits, fetch, kind, old, given)


def _atomic_pairs(bits):
    ones, least = 2**bits - 1, 2 ** (bits - 1)
    typical = 0x0123_4567_89AB_CDEF % 2**bits
    yield from (
        ("typical", typical, 0x1111_2222), ("zero", 0, 0), ("all-ones", ones, ones),
        ("sign-boundary", least - 1, 1), ("sign-boundary-least", least, least),
    )  # fmt: skip
    if bits == 32:
        yield "zext", typical, 0xA5A5_5A5A_0000_0003


def _atomic(name, bits, fetch, kind, old, given):
    """Cell, operand register and R0 afterwards, folded into one number."""
    suffix = "32" if bits == 32 else ""
    fetching = "fetch " if fetch and name not in ("xchg", "cmpxchg") else ""
    plain = "" if name in ("xchg", "cmpxchg") else "fetch_" if fetch else "atomic_"
    group = f"{plain}{name}{bits}"
    data = BEFORE + old.to_bytes(bits // 8, "little") + AFTER
    line = f"lock {fetching}{name}{suffix} [%r1+8], %r2"
    for word, expected in _compared(name, kind, old, given, bits):
        cell_after, register, r0 = _after(name, bits, fetch, old, given, expected)
        after = with_cell(data, 8, bits // 8, cell_after)
        folded = (cell(after, 0, 8) + 3 * cell(after, 8, 8) + 5 * register + 7 * r0) % 2**64
        yield Spec(
            f"{group}/mem-{kind}{word}",
            f"{line} with 0x{old:x} and 0x{given:x}: cell + 3, R2 * 5, R0 * 7 and the "
            "neighbour in front",
            memory=data,
            asm=(put(0, expected), put(2, given), line,
                 "ldxdw %r3, [%r1+0]", "ldxdw %r4, [%r1+8]", "mul %r4, 3", "add %r3, %r4",
                 "mul %r2, 5", "add %r3, %r2", "mul %r0, 7", "add %r0, %r3", "exit"),
            result=folded,
            source="RFC 9669, section 5.3",
        )  # fmt: skip


def _compared(name, kind, old, given, bits):
    """What stands in R0: for cmpxchg once what is in the cell, once something else."""
    if name != "cmpxchg":
        return [("", 0x77)]
    high = 0x1234_5678_0000_0000 if bits == 32 and kind == "zext" else 0
    return [("-equal", old | high), ("-different", (old ^ 0x10) | high)]


def _after(name, bits, fetch, old, given, r0):
    low = given % 2**bits
    if name == "cmpxchg":
        return (low if r0 % 2**bits == old else old), given, old
    if name == "xchg":
        return low, old, r0
    return alu(name, old, low, bits), old if fetch else given, r0


def acquire_release():
    leave = ((0x95, 0, 0, 0, 0), "exit")
    for name, size in SIZES.items():
        code = 0xC3 | SIZE_CODES[name]
        for kind, data in _cells(size):
            yield Spec(
                f"load_acquire{8 * size}/mem-{kind}",
                f"load-acquire of {size} bytes of {data.hex(' ')}, zero-extended",
                memory=BEFORE + data + AFTER,
                raw=(((0xB7, 0, 0, 0, -1), "r0 = -1"),
                     ((code, 0, 1, 8, 0x100), f"r0 = load_acquire(r1 + 8), {size} bytes"), leave),
                result=cell(data, 0, size),
                source=ACQUIRE,
            )  # fmt: skip
            number = to_signed(cell(data, 0, 8), 32)
            before = BEFORE + bytes.fromhex("c1c2c3c4c5c6c7c8") + AFTER
            yield Spec(
                f"store_release{8 * size}/reg-{kind}",
                f"store-release of the low {size} bytes of {number}",
                memory=before,
                raw=(((0xB7, 2, 0, 0, number), f"r2 = {number}"),
                     ((code, 1, 2, 8, 0x110), f"store_release(r1 + 8, r2), {size} bytes"),
                     ((0x79, 0, 1, 8, 0), "r0 = *(u64 *)(r1 + 8)"), leave),
                result=cell(with_cell(before, 8, size, number % 2**64), 8, 8),
                source=ACQUIRE,
            )  # fmt: skip


def arguments():
    """What the plugin's protocol says of R1, R2 and R10."""
    source = "convention of the public suite's plugins"
    for length in (1, 2, 7, 64):
        yield Spec(f"arguments/none-typical-length-{length}", f"R2 is the length, {length}",
                   memory=bytes(range(length)), asm=("mov %r0, %r2", "exit"), result=length,
                   source=source)  # fmt: skip
    yield Spec("arguments/none-zero", "without memory R1 and R2 are 0",
               asm=("mov %r0, %r1", "or %r0, %r2", "exit"), result=0, source=source)  # fmt: skip
    yield Spec("arguments/none-edge-stack", "512 bytes of stack, first and last",
               asm=("stb [%r10-512], 0x12", "stb [%r10-1], 0x34", "ldxb %r0, [%r10-512]",
                    "lsh %r0, 8", "ldxb %r1, [%r10-1]", "or %r0, %r1", "exit"),
               result=0x1234, source=source)  # fmt: skip


def cases():
    for part in (loads, stores, wide_constants, atomics, acquire_release, arguments):
        yield from part()
