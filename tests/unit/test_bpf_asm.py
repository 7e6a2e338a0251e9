# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The assembler: everything that a listing shows comes back, and mistakes have a place."""

import pytest
from bpf_insns import instructions
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import build
from harness.bpf import disasm, isa, objdump, opcodes
from harness.bpf.asm import assemble
from harness.bpf.elf import read_object
from harness.bpf.isa import Insn
from harness.bpf.link import LinkedFunction, Ref, RefKind, link
from harness.errors import ObjectError, UsageError

# the kernel prints these as it prints a plain number
AMBIGUOUS = {"var_addr", "map_by_idx"}
ROUND = settings(max_examples=400, derandomize=True, database=None, deadline=None)
KERNELS = [f for f in opcodes.FORMS if f.since != opcodes.INTERNAL and f.name not in AMBIGUOUS]
# LLVM does not say what is called, nor the second half of a wide instruction
LLVMS = [
    f for f in KERNELS
    if not f.name.startswith(("call", "ld_ind", "map_", "code_addr"))
]  # fmt: skip


@ROUND
@given(instructions([f for f in opcodes.FORMS if f.name != "nospec"]))
def test_source_of_every_instruction_comes_back(insns):
    assert assemble(disasm.source(insns, 0)).insns == insns


@ROUND
@given(instructions(KERNELS))
def test_kernel_words_come_back(insns):
    assert assemble(disasm.text(insns, 0)).insns == insns
    assert assemble(f"  12: {disasm.line(insns, 0)} ; comment").insns == insns


@ROUND
@given(instructions(LLVMS))
def test_llvm_words_come_back(insns):
    assert assemble(objdump.text(insns, 0), dialect="llvm").insns == insns


@settings(max_examples=300, derandomize=True, database=None)
@given(st.binary(min_size=8, max_size=160).map(lambda data: data[: len(data) // 8 * 8]))
def test_any_bytes_come_back(code):
    insns = isa.decode(code)
    text, pc = [], 0
    while pc < len(insns):
        text.append(disasm.source(insns, pc))
        wide = insns[pc].code == isa.LD_IMM64 and not text[-1].startswith(".insn")
        pc += 2 if wide else 1
    assert isa.encode(assemble("\n".join(text)).insns) == code


def test_every_linked_program_comes_back():
    count = 0
    for path in build.build([build.PROGS]):
        obj = read_object(path)
        for function in obj.programs:
            try:
                insns = link(obj, function.name).insns
            except ObjectError:
                assert path.parent.name == "reject"
                continue
            text = "\n".join(disasm.source(insns, pc) for pc in disasm.starts(insns))
            assert assemble(text).insns == insns
            count += 1
    assert count > 150


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(st.text(alphabet="rw0123456789 +-*/=<>&|^()[]#,:;.xsgifotcalluk_\n\t", max_size=60))
def test_any_text_is_a_program_or_a_mistake_with_a_place(text):
    try:
        message = ""
        assert assemble(text, file="x.s").insns
    except UsageError as error:
        message = error.message
    assert not message or message.startswith("x.s:")


SOURCE = """
# a whole line
.section xdp
.callback handler
start:
        r6 = r1                     // to the end
        if r1 == 0 goto out
        r1 = 0x11223344556677 ll
        call helper
        r2 = map[hits]
        r3 = map[.data][0]+8
        r4 = subprog[helper]
        call bpf_map_lookup_elem
        gotol out
out:    r0 = 0
        exit
helper: call bpf_throw
        goto +0
        exit
.func handler global
        r0 = r1
        exit
"""


def test_labels_functions_and_names():
    program = assemble(SOURCE, file="x.s")
    assert (program.name, program.section, program.exception_callback) == ("start", "xdp", 2)
    assert program.functions == (
        LinkedFunction("start", 0, 15, "global"),
        LinkedFunction("helper", 15, 18, "static"),
        LinkedFunction("handler", 18, 20, "global"),
    )
    assert program.refs == {
        5: Ref(RefKind.MAP, "hits"),
        7: Ref(RefKind.GLOBAL, ".data", 8),
        9: Ref(RefKind.FUNCTION, "helper", 15),
        15: Ref(RefKind.KFUNC, "bpf_throw"),
    }
    assert program.insns[1] == Insn(0x15, 1, 0, 11, 0)
    assert program.insns[4] == Insn(0x85, 0, 1, 0, 10)
    assert program.insns[9] == Insn(0x18, 4, 4, 0, 5)
    assert program.insns[11] == Insn(0x85, 0, 0, 0, 1)
    assert program.insns[12] == Insn(0x06, 0, 0, 0, 0)
    line = program.line_at(4)
    assert line is not None
    assert (line.file, line.number, line.text) == ("x.s", 9, "call helper")


def test_listing_of_a_linked_program_is_source():
    program = assemble(SOURCE)
    again = assemble(".callback handler\n" + disasm.listing(program))
    assert (again.insns, again.refs) == (program.insns, program.refs)
    assert [(f.name, f.start) for f in again.functions] == [
        (f.name, f.start) for f in program.functions
    ]


@pytest.mark.parametrize(
    ("text", "insn"),
    [
        ("r1 = 5", Insn(0xB7, 1, 0, 0, 5)),
        ("r1 = -0x5", Insn(0x18, 1, 0, 0, -5)),
        ("w1 = 0xffffffff", Insn(0xB4, 1, 0, 0, -1)),
        ("if r1 s> 0xffffffff goto pc-1", Insn(0x65, 1, 0, -1, -1)),
        ("if w1 & w2 goto -0x2 <foo+0x8>", Insn(0x4E, 1, 2, -2, 0)),
        ("call 5", Insn(0x85, 0, 0, 0, 5)),
        ("call -1", Insn(0x85, 0, 1, 0, -1)),
        ("call pc-1#name", Insn(0x85, 0, 1, 0, -1)),
        ("call bpf_tail_call#12", Insn(0x85, 0, 0, 0, 12)),
        ("call bpf_throw#81234", Insn(0x85, 0, 2, 0, 81234)),
        ("call unknown#-7", Insn(0x85, 0, 0, 0, -7)),
        ("w2 = *(u32 *)(r1 + 0x8)", Insn(0x61, 2, 1, 8, 0)),
        ("w2 = xchg32_32(r1 - 0x8, w2)", Insn(0xC3, 1, 2, -8, 0xE1)),
        ("r0 = *(u8 *)skb[r3 + -4]", Insn(0x50, 0, 3, 0, -4)),
        ("r1 = *(u64 *)(r11 +8)", Insn(0x79, 1, 11, 8, 0)),
        ("r1 = addr_space_cast(r2, 0, 1)", Insn(0xBF, 1, 2, 1, 1)),
        (".insn 0xff, 15, 14, -1, 7", Insn(0xFF, 15, 14, -1, 7)),
    ],
)
def test_ways_to_write(text, insn):
    assert assemble(text).insns[0] == insn


def test_hexadecimal_move_depends_on_the_dialect():
    assert [i.code for i in assemble("r1 = 0x5").insns] == [0x18, 0]
    assert [i.code for i in assemble("r1 = 0x5", dialect="llvm").insns] == [0xB7]
    assert [i.code for i in assemble("r1 = 0x5 ll", dialect="llvm").insns] == [0x18, 0]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("r1 += w2", 7, "expected a number or a register (r0 to r10), not 'w2'"),
        ("r1 = (s9)r2", 7, "expected 's8', 's16' or 's32', not 's9'"),
        ("if r1 s> 5 goto", 16, "expected 'pc', a number or a name, not the end of the line"),
        ("goto nowhere", 6, "there is no label 'nowhere'"),
        ("goto end\nend:", 6, "there is no instruction at label 'end'"),
        ("r1 = -r2", 7, "expected r1 again, not 'r2'"),
        ("w1 = 0x1ffffffff", 6, "0x1ffffffff does not fit"),
        ("r1 += 0xffffffff", 7, "0xffffffff does not fit into 32 bits"),
        ("*(u64 *)(r10 -8) = r1 r2", 23, "expected the end of the line, not 'r2'"),
        ("r1 = *(u65 *)(r2 +0)", 8, "expected 'u8', 's8', 'u16', 's16', 'u32', 's32' or 'u64'"),
        ("r1 = 5 @", 8, "no word starts with '@'"),
        ("r1 = *(u64 *)(r2 +40000)", 18, "+40000 does not fit into 16 bits"),
        ("r1 += " + "9" * 5000, 7, "999"),
        ("r1 = \u0663", 6, "no word starts with"),
        ("r11 = 5", 1, "r11 cannot stand here"),
        ("r1 = addr_space_cast(r2, 2, 0)", 26, "2 is not possible in this instruction"),
        ("r0 = atomic_cmpxchg((u32 *)(r1 +0), r1, r2)", 37, "expected r0, not 'r1'"),
        (".func", 6, "expected the name of a function"),
        (".func f local\nexit", 9, "expected 'static' or 'global', not 'local'"),
        (".func f\n.func g\nexit", 7, "function 'f' has no code"),
        (".word 5", 1, "no directive '.word'; there are .func, .section, .callback, .insn"),
        (".callback f\nexit", 11, "there is no label 'f'"),
        (".insn 256, 0, 0, 0, 0", 7, "opcode must be 0 to 255, not 256"),
        (".insn 1, 2", 1, ".insn takes opcode, dst, src, off, imm"),
        ("x: exit\nx: exit", 1, "label 'x' is there already"),
        ("(b7) r1 = r2", 2, "opcode b7 does not go with these words, which are bf"),
    ],
)
def test_mistake_names_line_column_and_what_was_expected(text, place, words):
    with pytest.raises(UsageError) as caught:
        assemble("exit\n" + text if text[0] != "." else text, file="x.s")
    line, column, message = caught.value.message.removeprefix("x.s:").split(":", 2)
    assert message.strip().startswith(words)
    assert int(column) == place
    assert int(line) >= 1


def test_a_label_that_is_too_far_away():
    text = "if r1 == 0 goto far\n" + "r0 = 0\n" * 40_000 + "far: exit"
    with pytest.raises(UsageError, match="too far for 16 bits") as caught:
        assemble(text)
    assert caught.value.fix == "gotol reaches further"
    assert assemble(text.replace("if r1 == 0 goto", "gotol")).insns[0].imm == 40_000


@pytest.mark.parametrize("text", ["", "# nothing\n", "x:\n"])
def test_nothing_is_no_program(text):
    with pytest.raises(UsageError, match="there are no instructions"):
        assemble(text)


def test_names_that_nobody_gave_are_free():
    program = assemble("call main\ncall pc+1\nmain: exit\nexit")
    assert [f.name for f in program.functions] == ["main_", "main", "sub_3"]


def test_function_without_code():
    with pytest.raises(UsageError, match="function 'f' has no code"):
        assemble("exit\n.func f")
