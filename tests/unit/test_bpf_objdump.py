# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""LLVM's dialect, against llvm-objdump-19 itself (package llvm-19)."""

import subprocess

import pytest
from bpf_insns import instructions
from hypothesis import given, settings

from harness import build
from harness.bpf import disasm, isa, objdump, opcodes
from harness.bpf.rawelf import parse, read

OBJDUMP = "llvm-objdump-19"
# in the table, but not known to LLVM 19: later LLVMs, or none
UNKNOWN = {"gotox", "percpu_addr", "nospec", "ldx_arg", "st_arg", "stx_arg"}
KNOWN = [
    f for f in opcodes.FORMS
    if f.name not in UNKNOWN and not f.name.startswith(("load_acquire", "store_release"))
]  # fmt: skip
ATOMIC32 = 0xC3


def dump(path, *options):
    command = [OBJDUMP, "-d", *options, path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_object_of_progs_is_shown_byte_for_byte():
    paths = build.build([build.PROGS])
    assert len(paths) > 60
    for path in paths:
        assert objdump.listing(read(path)) == dump(str(path))


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    """Assemble bytes as a function f: the object's path."""
    root = tmp_path_factory.mktemp("dump")

    def make(code):
        rows = [",".join(map(str, code[i : i + 8])) for i in range(0, len(code), 8)]
        text = ".text\n.globl f\n.type f,@function\nf:\n" + "".join(f".byte {r}\n" for r in rows)
        (root / "x.s").write_text(text)
        command = [build.find_clang(), "-target", "bpf", "-c", "x.s", "-o", "x.o"]
        subprocess.run(command, cwd=root, check=True)
        return root / "x.o"

    return make


def words(line):
    return line.split("\t")[2:]


def test_every_form_that_llvm_knows(assembled):
    """32-bit atomics are the exception: without +alu32 LLVM shows none, or another one."""
    drawn = []
    collect(KNOWN, drawn)
    path = assembled(isa.encode(tuple(slot for insns in drawn for slot in insns)))
    ours = objdump.listing(read(path)).splitlines()
    plain, half = dump(str(path)).splitlines(), dump(str(path), "--mattr=+alu32").splitlines()
    assert len(ours) == len(plain) > 600
    for seen, normal, wide in zip(ours, plain, half, strict=True):
        assert seen == (wide if f"\t{ATOMIC32:02x} " in normal else normal)


def collect(forms, drawn):
    for form in forms:

        @settings(max_examples=6, derandomize=True, database=None, deadline=None)
        @given(instructions([form]))
        def draw(insns):
            drawn.append(insns)

        draw()


@pytest.mark.parametrize(
    ("insn", "text"),
    [
        (isa.Insn(0xD3, 1, 2, 4, 0x100), "w1 = load_acquire((u8 *)(r2 + 0x4))"),
        (isa.Insn(0xDB, 1, 2, -4, 0x110), "store_release((u64 *)(r1 - 0x4), r2)"),
        (isa.Insn(0x0D, 1, 0, 0, 0), "gotox r1"),
        (isa.Insn(0xFF, 1, 0, 0, 0), "<unknown>"),
        (isa.Insn(0x18, 1, 0, 0, 0), "<unknown>"),
    ],
)
def test_what_llvm_19_does_not_know(insn, text):
    assert objdump.text((insn,), 0) == text


def test_names_of_places(assembled):
    code = isa.encode(
        (isa.Insn(0x05, 0, 0, 1, 0), isa.Insn(0x05, 0, 0, -1, 0), isa.Insn(0x95, 0, 0, 0, 0),
         isa.Insn(0x06, 0, 0, 0, -4))
    )  # fmt: skip
    path = assembled(code)
    assert objdump.listing(read(path)) == dump(str(path))
    assert "goto +0x1 <f+0x10>" in objdump.listing(parse("x", path.read_bytes()))
    assert len(disasm.starts(isa.decode(code))) == 4
