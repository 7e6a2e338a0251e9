# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Decoding and listing instructions, against clang's assembler."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import build
from harness.bpf import disasm, isa
from harness.bpf.link import LinkedFunction, Program
from harness.bpf.rawelf import read
from harness.errors import ObjectError

LINES = [
    "r1 = r2", "w1 = w2", "r1 = -5", "w3 += 7", "r3 s>>= r4", "w3 %= w4", "r1 = (s8)r2",
    "w1 = (s16)w2", "r5 = -r5", "r1 = be16 r1", "r1 = le64 r1", "r1 = bswap32 r1",
    "r2 s/= r3", "w2 s%= 5", "exit",
    "r1 = *(u8 *)(r2 +4)", "r1 = *(s16 *)(r2 -4)", "*(u32 *)(r10 -8) = r1",
    "*(u64 *)(r10 -8) = 7", "lock *(u64 *)(r1 +0) += r2", "lock *(u32 *)(r1 +8) &= r2",
    "r1 = 0x1122334455667788",
]  # fmt: skip
# the verifier's spelling -> the assembler's, where they differ
ASSEMBLER = {
    "r1 = 0x1122334455667788": "r1 = 0x1122334455667788 ll",
    "lock *(u32 *)(r1 +8) &= r2": "lock *(u32 *)(r1 + 8) &= w2",
}


def program_of(insns):
    return Program("p", "tc", insns, (LinkedFunction("p", 0, len(insns), "global"),), {}, {})


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    root = tmp_path_factory.mktemp("asm")
    text = "\n".join(ASSEMBLER.get(line, line) for line in LINES)
    (root / "x.s").write_text(text + "\n")
    command = [build.find_clang(), "-target", "bpf", "-mcpu=v4", "-c", "x.s", "-o", "x.o"]
    subprocess.run(command, cwd=root, check=True)
    section = next(s for s in read(root / "x.o").sections if s.name == ".text")
    return section.data


def test_listing_is_what_was_assembled(assembled):
    text = disasm.listing(program_of(isa.decode(assembled)))
    lines = [line.partition(") ")[2] for line in text.splitlines()[1:]]
    assert lines == LINES


@pytest.mark.parametrize(
    ("insn", "text"),
    [
        (isa.Insn(0x1D, 1, 2, 5, 0), "if r1 == r2 goto pc+5"),
        (isa.Insn(0xC6, 1, 0, -3, -1), "if w1 s< 0xffffffff goto pc-3"),
        (isa.Insn(0x05, 0, 0, 2, 0), "goto pc+2"),
        (isa.Insn(0x06, 0, 0, 0, -9), "gotol pc-9"),
        (isa.Insn(0xE5, 0, 0, 3, 0), "may_goto pc+3"),
        (isa.Insn(0x85, 0, 0, 0, 12), "call bpf_tail_call#12"),
        (isa.Insn(0xDB, 1, 2, 8, 0xE1), "r2 = atomic64_xchg((u64 *)(r1 +8), r2)"),
        (isa.Insn(0xDB, 1, 2, 8, 0xF1), "r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)"),
        (isa.Insn(0xD3, 1, 2, 0, 0x100), "r1 = load_acquire((u8 *)(r2 +0))"),
        (isa.Insn(0xFF, 1, 2, 0, 0), "r1 (null) r2"),
        (isa.Insn(0x23, 0, 0, 0, 0), "BUG_23"),
    ],
)
def test_words_of_one_instruction(insn, text):
    assert disasm.instruction(program_of((insn,)), 0) == text


@settings(max_examples=100, derandomize=True, database=None)
@given(code=st.binary(max_size=160).map(lambda data: data[: len(data) // 8 * 8]))
def test_any_bytes_decode_encode_and_list(code):
    insns = isa.decode(code)
    assert isa.encode(insns) == code
    assert len(disasm.listing(program_of(insns)).splitlines()) <= len(insns) + 1


def test_part_of_an_instruction_is_an_error():
    with pytest.raises(ObjectError, match="9 bytes"):
        isa.decode(bytes(9))


@pytest.mark.parametrize(
    ("operation", "registers"),
    [(0xF1, (1, 2, 0)), (0xE1, (1, 2)), (0x100, (2,)), (0x110, (1, 2))],
)
def test_registers_that_an_atomic_operation_reads(operation, registers):
    assert isa.registers_read(isa.Insn(0xDB, 1, 2, 0, operation)) == registers
