# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Vectors of jumps, calls and exit (RFC 9669, section 4.3; may_goto and callx: see below)."""

from conformance.rfc import M32, M64, holds, to_signed, widen
from conformance.spec import Spec, put

SECTION = "RFC 9669, section 4.3"
JUMPS = ("jeq", "jne", "jset", "jgt", "jge", "jlt", "jle", "jsgt", "jsge", "jslt", "jsle")
LEAST = {32: 0x8000_0000, 64: 0x8000_0000_0000_0000}
MOST = {32: 0x7FFF_FFFF, 64: 0x7FFF_FFFF_FFFF_FFFF}
ONES = {32: M32, 64: M64}
HIGH = 0xA5A5_5A5A << 32
TAKEN, PASSED = 0x7A, 0xBE
ORDINARY = "mov %r0, 0"


def conditional():
    for name in JUMPS:
        for bits in (32, 64):
            group, mnemonic = f"{name}{bits}", name if bits == 64 else f"{name}32"
            for kind, left, right in _pairs(bits):
                yield _register(group, mnemonic, name, bits, kind, left, right)
                if right not in (LEAST[64], MOST[64]):
                    yield _constant(group, mnemonic, name, bits, kind, left, right)
            if bits == 32:
                # equal, or not, in the low half only
                yield _register(group, mnemonic, name, 32, "zext", HIGH | 5, 5)
                yield _constant(group, mnemonic, name, 32, "zext", HIGH | 5, 5)
            yield _backward(group, mnemonic, name, bits)


def _pairs(bits):
    ones, least, most = ONES[bits], LEAST[bits], MOST[bits]
    return [
        ("typical-less", 0x1234, 0x4321),
        ("typical-greater", 0x4321, 0x1234),
        ("zero", 0, 0),
        ("all-ones", ones, ones),
        ("all-ones-and-zero", ones, 0),
        ("sign-boundary", most, least),
        ("sign-boundary-minus-one", least, ones),
        ("edge-no-common-bit", 0x5550, 0x2AAA),
    ]


def _register(group, mnemonic, name, bits, kind, left, right):
    return Spec(
        f"{group}/reg-{kind}",
        f"{mnemonic} 0x{left:x}, 0x{right:x}: {_said(name, left, right, bits)}",
        asm=(put(1, left), put(2, right), f"mov %r0, {TAKEN}", f"{mnemonic} %r1, %r2, +1",
             f"mov %r0, {PASSED}", "exit"),
        result=TAKEN if holds(name, left, right, bits) else PASSED,
        source=SECTION,
    )  # fmt: skip


def _constant(group, mnemonic, name, bits, kind, left, right):
    imm = to_signed(right, 32)
    operand = widen(imm, bits)
    return Spec(
        f"{group}/imm-{kind}",
        f"{mnemonic} 0x{left:x}, {imm}: {_said(name, left, operand, bits)}",
        asm=(put(1, left), f"mov %r0, {TAKEN}", f"{mnemonic} %r1, {imm}, target",
             f"mov %r0, {PASSED}", "target:", "exit"),
        result=TAKEN if holds(name, left, operand, bits) else PASSED,
        source=SECTION,
    )  # fmt: skip


def _said(name, left, right, bits):
    return "taken" if holds(name, left, right, bits) else "not taken"


def _backward(group, mnemonic, name, bits):
    """The jump goes back to code in front of it when it is taken."""
    left, right = 0x4321, 0x4321 if name in ("jeq", "jge", "jle", "jsge", "jsle", "jset") else 1
    if name in ("jlt", "jslt"):
        left, right = 1, 0x4321
    assert holds(name, left, right, bits)
    return Spec(
        f"{group}/reg-typical-backward",
        f"{mnemonic} to an instruction in front of it",
        asm=(put(1, left), put(2, right), "mov %r0, 1", "ja check", "back:",
             f"mov %r0, {TAKEN}", "exit", "check:", f"{mnemonic} %r1, %r2, back",
             f"mov %r0, {PASSED}", "exit"),
        result=TAKEN,
        source=SECTION,
    )  # fmt: skip


def unconditional():
    for name, group in (("ja", "ja"), ("ja32", "ja32")):
        for kind, says, asm, result in (
            ("typical", "forwards over two", ("mov %r0, 1", f"{name} +2", "mov %r0, 2",
                                              "mov %r0, 3", "exit"), 1),
            ("zero", "to the next instruction", ("mov %r0, 1", f"{name} +0", "add %r0, 1",
                                                 "exit"), 2),
            ("all-ones", "one back (distance -2), left by a counter",
             ("mov %r0, 5", "sub %r0, 1", "jeq %r0, 1, +1", f"{name} -3", "exit"), 1),
            ("sign-boundary", "over more than 127 instructions",
             ("mov %r0, 7", f"{name} far", *["mov %r0, 9"] * 130, "far:", "exit"), 7),
        ):  # fmt: skip
            yield Spec(f"{group}/off-{kind}", f"{name} {says}", asm=asm, result=result,
                       source=SECTION)  # fmt: skip


def exits():
    for kind, number in (
        ("typical", 0x1234), ("zero", 0), ("all-ones", M64),
        ("sign-boundary", LEAST[64]), ("sign-boundary-32", LEAST[32]),
    ):  # fmt: skip
        yield Spec(f"exit/none-{kind}", f"R0 is 0x{number:x} at exit",
                   asm=(put(0, number), "exit"), result=number, source=SECTION)  # fmt: skip
    yield Spec(
        "exit/none-typical-not-last",
        "code behind an exit that something else reaches",
        asm=("mov %r0, 1", "ja over", "exit", "over:", "mov %r0, 2", "ja exit"),
        result=2,
        source=SECTION,
    )


def calls():
    for kind, says, asm, result in _CALLS:
        yield Spec(f"call_local/none-{kind}", says, asm=asm, result=result, source=SECTION)
    for kind, number in (("typical", 0x42), ("zero", 0), ("all-ones", M64),
                         ("sign-boundary", LEAST[64])):  # fmt: skip
        yield Spec(
            f"call_local/none-{kind}-through",
            f"0x{number:x} as argument and as value of a subprogram",
            asm=(put(1, number), "call local echo", "exit", "echo:", "mov %r0, %r1", "exit"),
            result=number,
            source=SECTION,
        )
    for group, word in (("call", "5"), ("callx", "%r6")):
        source = SECTION if group == "call" else "the suite's own opcode 0x8d"
        yield Spec(
            f"{group}/none-typical",
            "helper 5 returns something that is not 0, and execution goes on",
            asm=("mov %r6, 5", "mov %r1, -1", f"call {word}", "jne %r0, 0, +2", "mov %r0, 1",
                 "exit", "mov %r0, 2", "exit"),
            result=2,
            source=source,
        )  # fmt: skip
        yield Spec(
            f"{group}/none-typical-keeps-registers",
            "R6 to R9 are as they were before the call",
            asm=("mov %r6, 5", "mov %r7, 0x70", "mov %r8, 0x800", "mov %r9, 0x9000",
                 "mov %r1, -1", f"call {word}", "mov %r0, %r6", "add %r0, %r7", "add %r0, %r8",
                 "add %r0, %r9", "exit"),
            result=0x9875,
            source=source,
        )  # fmt: skip
    yield Spec(
        "callx/none-zero-high-half",
        "only the register's low half can name a helper",
        asm=(put(6, 5), "mov %r1, 0", "call %r6", "mov %r0, 3", "exit"),
        result=3,
        source="the suite's own opcode 0x8d",
    )


_CALLS = (
    (
        "typical-arguments", "R1 to R5 arrive, R0 comes back",
        ("mov %r1, 1", "mov %r2, 20", "mov %r3, 300", "mov %r4, 4000", "mov %r5, 50000",
         "call local sum", "exit",
         "sum:", "mov %r0, %r1", "add %r0, %r2", "add %r0, %r3", "add %r0, %r4", "add %r0, %r5",
         "exit"),
        54321,
    ),
    (
        "typical-keeps-registers", "what the callee does to R6 to R9 is undone",
        ("mov %r6, 6", "mov %r7, 70", "mov %r8, 800", "mov %r9, 9000", "call local spoil",
         "add %r0, %r6", "add %r0, %r7", "add %r0, %r8", "add %r0, %r9", "exit",
         "spoil:", "mov %r6, -1", "mov %r7, -1", "mov %r8, -1", "mov %r9, -1", "mov %r0, 0",
         "exit"),
        9876,
    ),
    (
        "typical-stacks", "each frame has a stack of its own",
        ("stdw [%r10-8], 0x11", "stdw [%r10-512], 0x22", "call local spoil",
         "ldxdw %r1, [%r10-8]", "ldxdw %r2, [%r10-512]", "add %r0, %r1", "add %r0, %r2", "exit",
         "spoil:", "stdw [%r10-8], 0x700", "stdw [%r10-512], 0x700", "ldxdw %r0, [%r10-8]",
         "exit"),
        0x733,
    ),
    (
        "typical-callers-stack", "a callee writes to its caller's stack through a pointer",
        ("mov %r1, %r10", "add %r1, -16", "call local fill", "ldxdw %r0, [%r10-16]", "exit",
         "fill:", "stdw [%r1+0], 0x5a5a", "mov %r0, 0", "exit"),
        0x5A5A,
    ),
    (
        "typical-nested", "three deep",
        ("mov %r1, 1", "call local a", "exit",
         "a:", "add %r1, 10", "call local b", "add %r0, 1000", "exit",
         "b:", "add %r1, 100", "call local c", "add %r0, 2000", "exit",
         "c:", "mov %r0, %r1", "exit"),
        3111,
    ),
    (
        "edge-eight-frames", "the longest chain that kernels take: main and seven below it",
        ("mov %r1, 0", "call local f1", "exit",
         *[line for n in range(1, 7)
           for line in (f"f{n}:", "add %r1, 1", f"call local f{n + 1}", "exit")],
         "f7:", "add %r1, 1", "mov %r0, %r1", "exit"),
        7,
    ),
    (
        "typical-twice", "the same function from two places",
        ("mov %r1, 3", "call local square", "mov %r6, %r0", "mov %r1, 4", "call local square",
         "add %r0, %r6", "exit", "square:", "mov %r0, %r1", "mul %r0, %r1", "exit"),
        25,
    ),
    (
        "typical-recursion", "a function that calls itself four times",
        ("mov %r1, 4", "call local down", "exit",
         "down:", "mov %r0, 0", "jeq %r1, 0, stop", "mov %r6, %r1", "sub %r1, 1",
         "call local down", "add %r0, %r6", "stop:", "exit"),
        10,
    ),
    (
        "typical-backward", "a callee that stands in front of its caller",
        ("mov %r1, 2", "call local second", "exit",
         "first:", "mov %r0, %r1", "add %r0, 5", "exit",
         "second:", "add %r1, 1", "call local first", "add %r0, 100", "exit"),
        108,
    ),
)  # fmt: skip


def may_goto():
    """Linux kernel commit 011832b97b31 (in v6.9): jumps only when the loop ran for too long."""
    source = "Linux kernel commit 011832b97b31 (in v6.9)"
    move = ((0xB7, 0, 0, 0, 5), "r0 = 5")
    leave = ((0x95, 0, 0, 0, 0), "exit")
    for kind, off in (("typical", 1), ("zero", 0)):
        yield Spec(
            f"may_goto/off-{kind}",
            f"may_goto with distance {off} falls through",
            raw=(move, ((0xE5, 0, 0, off, 0), f"may_goto +{off}"), ((0x07, 0, 0, 0, 2), "r0 += 2"),
                 leave),
            result=7,
            source=source,
        )  # fmt: skip
    yield Spec(
        "may_goto/off-sign-boundary-backward",
        "may_goto backwards, not taken",
        raw=(move, ((0xE5, 0, 0, -2, 0), "may_goto -2"), leave),
        result=5,
        source=source,
    )
    yield Spec(
        "may_goto/off-all-ones-in-a-loop",
        "a hundred rounds of a loop are not too long",
        raw=(((0xB7, 0, 0, 0, 0), "r0 = 0"), ((0xE5, 0, 0, 2, 0), "may_goto +2"),
             ((0x07, 0, 0, 0, 1), "r0 += 1"), ((0xA5, 0, 0, -3, 100), "if r0 < 100 goto -3"),
             leave),
        result=100,
        source=source,
    )  # fmt: skip


def cases():
    for part in (conditional, unconditional, exits, calls, may_goto):
        yield from part()
