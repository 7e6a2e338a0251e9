# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Whole instructions, as clang assembles them: results, and faults with their words."""

import pytest

ASM = """
SEC("{section}") __attribute__((naked)) int entry(void *ctx)
{{
    asm volatile ("{code}" ::: "memory");
}}
"""


@pytest.fixture
def asm(run):
    """Run assembler text as a tc program (R1 is the context): the observation."""

    def go(code, *, section="tc", **options):
        lines = r"\n".join(line.strip() for line in code.strip().splitlines())
        return run(ASM.format(section=section, code=lines), **options)

    return go


@pytest.mark.parametrize(
    ("code", "retval"),
    [
        ("r0 = 5\n r0 = -r0\n exit", 0xFFFFFFFB),
        ("r0 = -1\n w0 += 1\n exit", 0),
        ("r0 = 0x1122334455667788 ll\n r0 >>= 32\n exit", 0x11223344),
        ("r0 = 0x11223344\n r0 = be32 r0\n exit", 0x44332211),
        ("r0 = 0x11223344\n r0 = le16 r0\n exit", 0x3344),
        ("*(u32 *)(r10 - 4) = 0xfffffffe\n r0 = *(u8 *)(r10 - 4)\n exit", 0xFE),
        ("r0 = 0\n r1 = 3\n if r1 s> -1 goto +1\n r0 = 9\n exit", 0),
        ("r0 = 0\n w1 = -1\n if w1 > 5 goto +1\n r0 = 9\n exit", 0),
        ("r0 = 7\n r1 = 0\n r0 /= r1\n exit", 0),
        ("r0 = 7\n r1 = 0\n r0 %%= r1\n exit", 7),
        ("r0 = 0\n r1 = 10\n r0 += r1\n r1 += -1\n if r1 != 0 goto -3\n exit", 55),
    ],
)
def test_result(asm, code, retval):
    assert asm(code).retval == retval


@pytest.mark.parametrize(
    ("operation", "result", "memory"),
    [
        ("lock *(u64 *)(r10 - 8) += r2", 3, 13),
        ("r2 = atomic_fetch_add((u64 *)(r10 - 8), r2)", 10, 13),
        ("r2 = atomic_fetch_or((u64 *)(r10 - 8), r2)", 10, 11),
        ("r2 = atomic_fetch_and((u64 *)(r10 - 8), r2)", 10, 2),
        ("r2 = atomic_fetch_xor((u64 *)(r10 - 8), r2)", 10, 9),
        ("r2 = xchg_64(r10 - 8, r2)", 10, 3),
    ],
)
def test_atomics(asm, operation, result, memory):
    code = (
        f"r1 = 10\n *(u64 *)(r10 - 8) = r1\n r2 = 3\n {operation}\n"
        " r0 = *(u64 *)(r10 - 8)\n r2 <<= 16\n r0 |= r2\n exit"
    )
    assert asm(code).retval == result << 16 | memory


@pytest.mark.parametrize(("expected", "memory"), [(10, 3), (11, 10)])
def test_compare_and_exchange(asm, expected, memory):
    code = (
        f"r1 = 10\n *(u64 *)(r10 - 8) = r1\n r0 = {expected}\n r2 = 3\n"
        "r0 = cmpxchg_64(r10 - 8, r0, r2)\n r1 = *(u64 *)(r10 - 8)\n r0 <<= 16\n r0 |= r1\n exit"
    )
    assert asm(code).retval == 10 << 16 | memory


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("r0 = r6\n exit", "R6 is not initialised"),
        ("r0 = 0\n if r7 == 0 goto +0\n exit", "R7 is not initialised"),
        ("r2 = r1\n exit", "R0 of entry is not initialised at exit"),
        ("r0 = *(u64 *)(r10 - 520)\n exit", "out of bounds: offset -8 of stack of entry"),
        ("r0 = *(u64 *)(r10 - 4)\n exit", "out of bounds: offset 508 of stack of entry"),
        ("r1 = 64\n r0 = *(u8 *)(r1 + 0)\n exit", "not a pointer"),
        ("*(u32 *)(r1 + 16) = 5\n r0 = 0\n exit", "__sk_buff.protocol is read-only"),
        ("r0 = *(u16 *)(r1 + 191)\n exit", "out of bounds"),
        ("r0 = 0\n r1 = *(u32 *)(r1 + 76)\n r0 = *(u8 *)(r1 + 64)\n exit", "of packet"),
        ("call 5\n r0 = r1\n exit", "R1 is not initialised"),
        ("r2 = r10\n r2 += -4\n call 1\n exit", "is not a map"),
        (
            "r2 = 1\n *(u64 *)(r10 - 8) = r2\n r0 = cmpxchg_64(r10 - 8, r0, r2)\n exit",
            "R0 is not initialised",
        ),
        ("call 1\n exit", "bpf_map_lookup_elem: R2 is not initialised"),
    ],
)
def test_fault_names_what_and_where(asm, code, words):
    seen = asm(code, budget=10_000)
    assert seen.verdict == "rejected"
    assert seen.message.startswith("simulator fault: ")
    assert words in seen.message
    assert "entry" in seen.message


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("r0 = *(u64 *)(r10 - 8)\n exit", "never written: offset 504 of stack of entry"),
        ("r0 = 0\n goto -2", "instruction budget used up"),
    ],
)
def test_what_a_kernel_may_accept_is_unsupported(asm, code, words):
    seen = asm(code, budget=10_000)
    assert seen.verdict == "unsupported"
    assert words in seen.message
    assert "entry" in seen.message


def test_unknown_helper_is_unsupported_only_when_reached(asm):
    assert asm("r0 = 3\n if r0 == 3 goto +1\n call 12345\n exit").retval == 3
    seen = asm("call 12345\n exit")
    assert seen.verdict == "unsupported"
    assert seen.message.startswith("unsupported: helper 12345")
