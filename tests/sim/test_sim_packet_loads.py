# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""LD_ABS and LD_IND, and the instructions that newer kernels added."""

import pytest
from sim.conftest import FRAME

PLAIN = """
SEC("{section}") __attribute__((naked)) int entry(void *ctx)
{{
    asm volatile ("{code}" ::: "memory");
}}
"""


def lines(code):
    return r"\n".join(line.strip() for line in code.strip().splitlines())


@pytest.fixture
def asm(run):
    def go(code, *, section="tc", **options):
        return run(PLAIN.format(section=section, code=lines(code)), **options)

    return go


def big(start, size):
    return int.from_bytes(FRAME[start : start + size], "big")


@pytest.mark.parametrize(
    ("load", "value"),
    [
        ("r0 = *(u8 *)skb[13]", big(13, 1)),
        ("r0 = *(u16 *)skb[12]", big(12, 2)),
        ("r0 = *(u32 *)skb[10]", big(10, 4)),
        ("r7 = 20\n r0 = *(u8 *)skb[r7]", big(20, 1)),
        ("r7 = 20\n r0 = *(u16 *)skb[r7]", big(20, 2)),
        ("r7 = 0x100000002 ll\n r0 = *(u32 *)skb[r7]", big(2, 4)),
        ("r0 = *(u8 *)skb[-0x100000]", big(14, 1)),
        ("r0 = *(u16 *)skb[-0x1ffffe]", big(2, 2)),
        (f"r0 = *(u32 *)skb[{len(FRAME) - 4}]", big(len(FRAME) - 4, 4)),
    ],
)
def test_packet_load(asm, load, value):
    assert asm(f"r6 = r1\n {load}\n exit").retval == value


# LLVM's assembler has no constant in an indirect load: the slot by its bytes
def test_indirect_load_adds_the_constant(asm):
    slot = ".byte 0x50,0x70,0,0,5,0,0,0"
    assert asm(f"r6 = r1\n r7 = -1\n {slot}\n exit").retval == FRAME[4]


@pytest.mark.parametrize(
    "offset", [len(FRAME), len(FRAME) - 3, 0x7FFFFFFF, -1, -0x200001, -0x80000000]
)
def test_load_beyond_the_packet_ends_the_program_with_zero(asm, offset):
    seen = asm(f"r6 = r1\n r0 = *(u32 *)skb[{offset}]\n r0 = 77\n exit")
    assert (seen.verdict, seen.retval) == ("ran", 0)


def test_load_beyond_the_packet_ends_only_its_own_function(run):
    """The hidden exit of bpf_gen_ld_abs() is that of a subprogram too."""
    text = """
    static __noinline int sub(struct __sk_buff *ctx)
    {
        register struct __sk_buff *r6 asm("r6") = ctx;
        int value;
        asm volatile ("r0 = *(u32 *)skb[5000]; r0 = 77; %[value] = r0"
            : [value] "=r"(value) : "r"(r6) : "r0", "r1", "r2", "r3", "r4", "r5");
        return value;
    }
    SEC("tc") int entry(struct __sk_buff *ctx) { return sub(ctx) + 5; }
    """
    assert run(text).retval == 5


@pytest.mark.parametrize(
    ("code", "section", "words"),
    [
        ("r0 = *(u8 *)skb[0]\n exit", "tc", "R6 is not initialised"),
        ("r6 = r10\n r0 = *(u8 *)skb[0]\n exit", "tc", "R6 != pointer to skb"),
        ("r6 = r1\n r0 = *(u8 *)skb[r7]\n exit", "tc", "R7 is not initialised"),
        ("r6 = r1\n r0 = *(u8 *)skb[0]\n r0 = r3\n exit", "tc", "R3 is not initialised"),
        ("r6 = r1\n r0 = *(u8 *)skb[0]\n exit", "xdp", "not allowed for this program type"),
    ],
)
def test_packet_load_in_the_wrong_place(asm, code, section, words):
    seen = asm(code, section=section)
    assert seen.verdict == "rejected"
    assert words in seen.message


def test_packet_load_in_a_callback(run):
    text = """
    static long step(__u32 index, struct __sk_buff **ctx)
    {
        register struct __sk_buff *r6 asm("r6") = *ctx;
        asm volatile ("r0 = *(u8 *)skb[0]" :: "r"(r6) : "r0", "r1", "r2", "r3", "r4", "r5");
        return 0;
    }
    SEC("tc") int entry(struct __sk_buff *ctx) { return bpf_loop(1, step, &ctx, 0); }
    """
    seen = run(text)
    assert "cannot use BPF_LD_[ABS|IND] within callback" in seen.message


def raw(code, regs, off, imm):
    data = bytes([code, regs]) + off.to_bytes(2, "little", signed=True)
    return ".byte " + ",".join(str(b) for b in data + (imm & 0xFFFFFFFF).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("size", "code", "value"),
    [(1, 0xD3, 0x88), (2, 0xCB, 0x7788), (4, 0xC3, 0x55667788), (8, 0xDB, 0x1122334455667788)],
)
def test_load_acquire_and_store_release(asm, size, code, value):
    """What is stored comes back, and nothing beside it changes."""
    seen = asm(
        "r2 = 0x1122334455667788 ll\n r3 = 0\n *(u64 *)(r10 - 16) = r3\n *(u64 *)(r10 - 8) = r3\n"
        f"{raw(code, 0x2A, -16, 0x110)}\n {raw(code, 0xA4, -16, 0x100)}\n"
        f"r5 = {value} ll\n r0 = 1\n if r4 != r5 goto +5\n r4 = *(u64 *)(r10 - 16)\n"
        "if r4 != r5 goto +3\n r4 = *(u64 *)(r10 - 8)\n if r4 != 0 goto +1\n r0 = 42\n exit",
        profile="7.3",
    )
    assert seen.retval == 42


@pytest.mark.parametrize(
    ("slot", "profile", "words"),
    [
        (raw(0xDB, 0xA4, -8, 0x100), "6.12", "invalid atomic opcode 100"),
        (raw(0xD3, 0xA4, -8, 0x100), "6.12", "unknown opcode d3"),
        (raw(0x0F, 0x21, 1, 0), "7.3", "BPF_ALU uses reserved fields (off is 1); instruction 1"),
        (raw(0x05, 0, 0, 1), "7.3", "BPF_JA uses reserved fields (imm is 1)"),
        (raw(0xFF, 0, 0, 1), "7.3", "unknown opcode ff; instruction 1"),
        (raw(0x8D, 1, 0, 0), "7.3", "unknown opcode 8d"),
        (raw(0x79, 0xC1, 0, 0), "7.3", "R12 is invalid"),
    ],
)
def test_what_a_kernel_does_not_take_is_a_fault_before_anything_runs(asm, slot, profile, words):
    seen = asm(f"r0 = 0\n {slot}\n exit", profile=profile)
    assert seen.verdict == "rejected"
    assert words in seen.message


@pytest.mark.parametrize(
    ("slot", "words"),
    [
        (raw(0x0D, 1, 0, 0), "gotox"),
        (raw(0x79, 0xB1, 8, 0), "arguments beyond the fifth"),
        (raw(0x18, 0x51, 0, 3) + r"\n" + raw(0, 0, 0, 0), "map_by_idx with number 3"),
    ],
)
def test_what_is_not_modelled_is_named_when_it_is_reached(asm, slot, words):
    assert asm(f"r0 = 3\n if r0 == 3 goto +2\n {slot}\n exit\n exit", profile="7.3").retval == 3
    seen = asm(f"r0 = 3\n {slot}\n exit", profile="7.3")
    assert seen.verdict == "unsupported"
    assert words in seen.message


def test_jump_into_a_wide_instruction(asm):
    seen = asm("r0 = 0\n if r1 == 0 goto +1\n r2 = 5 ll\n exit")
    assert seen.verdict == "rejected"
    assert "jump into the middle of ldimm64 insn 2" in seen.message


def test_may_goto_goes_on(asm):
    code = f"r0 = 0\n r0 += 1\n {raw(0xE5, 0, 1, 0)}\n if r0 != 5 goto -3\n exit"
    assert asm(code).retval == 5
