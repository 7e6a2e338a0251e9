# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of instructions, and what of it a kernel does not take."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bpf import isa, opcodes, reserved
from harness.bpf.helper_names import NAMES, name_of
from harness.bpf.isa import Insn
from harness.errors import ObjectError

ALL = (1 << 16,)
FIELDS = {"dst": range(16), "src": range(16), "off": (-1, 0, 1, 8, 16, 32, 5), "imm": (0, 1, 17)}


def sample(form):
    """The plainest instruction of a form, with its second slot."""
    values = {
        name: min(allowed, key=abs) if (allowed := getattr(form, name)) else 0 for name in FIELDS
    }
    first = Insn(form.code, **values)
    return (first, Insn(0, 0, 0, 0, 0)) if form.wide else (first,)


@pytest.mark.parametrize("form", opcodes.FORMS, ids=lambda form: f"{form.code:02x}-{form.name}")
def test_each_form_finds_itself_and_is_taken(form):
    insns = sample(form)
    assert opcodes.find(insns[0]) is form
    assert list(reserved.problems(insns, ALL, strict=True)) == []


def test_forms_of_one_opcode_exclude_each_other():
    for forms in opcodes.BY_CODE.values():
        for form in forms:
            assert [f for f in forms if f.takes(sample(form)[0])] == [form]


def test_every_conformance_group_has_members():
    groups = {form.group for form in opcodes.FORMS}
    assert groups == {
        "base32", "base64", "divmul32", "divmul64", "atomic32", "atomic64", "packet", "",
    }  # fmt: skip


def test_opcodes_of_the_table_are_those_of_the_standard():
    """RFC 9669, sections 4 and 5, counted by class; opcodes beyond it belong to no group."""
    standard = {f.code for f in opcodes.FORMS if f.group}
    counts = [sum(code & 7 == cls for code in standard) for cls in range(8)]
    assert counts == [7, 7, 4, 6, 27, 25, 23, 26]
    assert {f.code for f in opcodes.FORMS} - standard == {0x0D, 0x8D, 0xC2, 0xCB, 0xD3, 0xE5}


@pytest.mark.parametrize("code", sorted({*range(256)} - opcodes.BY_CODE.keys()))
def test_opcode_that_is_not_in_the_table(code):
    with pytest.raises(ObjectError, match=f"instruction 1: unknown opcode {code:02x}$"):
        reserved.check((Insn(isa.EXIT, 0, 0, 0, 0), Insn(code, 0, 0, 0, 0)), ALL)


@pytest.mark.parametrize(
    ("insn", "words"),
    [
        (Insn(0x07, 1, 2, 0, 5), "BPF_ALU uses reserved fields: src is 2, allowed: 0"),
        (Insn(0x0F, 1, 2, 0, 5), "BPF_ALU uses reserved fields: imm is 5, allowed: 0"),
        (Insn(0x3F, 1, 2, 2, 0), "BPF_ALU uses reserved fields: off is 2, allowed: 0, 1"),
        (Insn(0x0F, 1, 2, 1, 0), "BPF_ALU uses reserved fields: off is 1, allowed: 0"),
        (Insn(0x87, 1, 0, 0, 9), "BPF_NEG uses reserved fields: imm is 9, allowed: 0"),
        (Insn(0xDC, 1, 0, 0, 8), "BPF_END uses reserved fields: imm is 8, allowed: 16, 32, 64"),
        (Insn(0xBC, 1, 2, 32, 0), "BPF_MOV uses reserved fields: off is 32, allowed: 0, 8, 16"),
        (Insn(0xBF, 1, 2, 8, 3), "BPF_MOV uses reserved fields: imm is 3, allowed: 0"),
        (Insn(0xBF, 1, 2, 1, 2), "addr_space_cast insn can only convert between address space"),
        (Insn(0x61, 1, 2, 0, 1), "BPF_LDX uses reserved fields: imm is 1, allowed: 0"),
        (Insn(0x62, 1, 2, 0, 1), "BPF_ST uses reserved fields: src is 2, allowed: 0"),
        (Insn(0x63, 1, 2, 0, 1), "BPF_STX uses reserved fields: imm is 1, allowed: 0"),
        (Insn(0x20, 0, 1, 0, 1), "BPF_LD_[ABS|IND] uses reserved fields: src is 1, allowed: 0"),
        (Insn(0xDB, 1, 2, 0, 0x20), "BPF_ATOMIC uses invalid atomic opcode 20: imm is 32"),
        (Insn(0xCB, 1, 2, 0, 1), "invalid atomic operand size: imm is 1, allowed: 256, 272"),
        (Insn(0x05, 0, 0, 1, 2), "BPF_JA uses reserved fields: imm is 2, allowed: 0"),
        (Insn(0x06, 0, 0, 1, 2), "BPF_JA uses reserved fields: off is 1, allowed: 0"),
        (Insn(0x0D, 1, 0, 0, 2), "BPF_JA|BPF_X uses reserved fields: imm is 2, allowed: 0"),
        (Insn(0x15, 1, 2, 0, 2), "BPF_JMP/JMP32 uses reserved fields: src is 2, allowed: 0"),
        (Insn(0x1E, 1, 2, 0, 2), "BPF_JMP/JMP32 uses reserved fields: imm is 2, allowed: 0"),
        (Insn(0x85, 1, 0, 0, 2), "BPF_CALL uses reserved fields: dst is 1, allowed: 0"),
        (Insn(0x85, 0, 1, 7, 2), "BPF_CALL uses reserved fields: off is 7, allowed: 0"),
        (Insn(0x85, 0, 3, 0, 2), "BPF_CALL uses reserved fields: src is 3, allowed: 0, 1, 2"),
        (Insn(0x95, 0, 0, 0, 2), "BPF_EXIT uses reserved fields: imm is 2, allowed: 0"),
        (Insn(0xE5, 0, 0, 1, 2), "invalid may_goto imm 2: imm is 2, allowed: 0"),
        (Insn(0x0F, 11, 2, 0, 0), "R11 is invalid: dst is 11, allowed: 0 to 10"),
        (Insn(0x79, 1, 11, 4, 0), "R11 is invalid: src is 11, allowed: 0 to 10"),
        (Insn(0x18, 1, 7, 0, 0), "unrecognized bpf_ld_imm64 insn: src is 7, allowed: 0 to 6"),
        (Insn(0x18, 1, 0, 2, 0), "BPF_LD_IMM64 uses reserved fields: off is 2, allowed: 0"),
    ],
)
def test_message_names_instruction_field_and_value(insn, words):
    with pytest.raises(ObjectError) as caught:
        reserved.check((insn, Insn(0, 0, 0, 0, 0)))
    assert caught.value.message.startswith(f"instruction 0: {words}")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (Insn(4, 0, 0, 0, 0), "instruction 1: invalid bpf_ld_imm64 insn: code is 4, allowed: 0"),
        (Insn(0, 0, 3, 0, 0), "instruction 1: invalid bpf_ld_imm64 insn: src is 3, allowed: 0"),
        (Insn(0, 0, 0, 0, 6),
         "instruction 0: unrecognized bpf_ld_imm64 insn: imm of the second slot is 6, allowed: 0"),
    ],
)  # fmt: skip
def test_second_slot_of_a_wide_instruction(second, words):
    with pytest.raises(ObjectError) as caught:
        reserved.check((Insn(0x18, 1, 1, 0, 5), second))
    assert caught.value.message == words


def test_missing_second_slot():
    with pytest.raises(ObjectError, match="instruction 0: .*its second slot is missing"):
        reserved.check((Insn(0x18, 1, 0, 0, 5),))


@pytest.mark.parametrize(
    ("insn", "since", "words"),
    [
        (Insn(0xDB, 1, 2, 0, 0x100), (6, 15), "BPF_ATOMIC uses invalid atomic opcode 100"),
        (Insn(0xD3, 1, 2, 0, 0x110), (6, 15), "unknown opcode d3"),
        (Insn(0x0D, 1, 0, 0, 0), (6, 19), "unknown opcode 0d"),
        (Insn(0x7B, 11, 2, -8, 0), (7, 3), "R11 is invalid"),
        (Insn(0xE5, 0, 0, 1, 0), (6, 9), "unknown opcode e5"),
    ],
)
def test_older_kernels_do_not_know_it(insn, since, words):
    before = (since[0], since[1] - 1)
    assert list(reserved.problems((insn,), since)) == []
    assert [p.words for p in reserved.problems((insn,), before)] == [words]


def test_no_kernel_takes_what_only_others_know():
    assert [p.words for p in reserved.problems((Insn(0x8D, 2, 0, 0, 0),))] == ["unknown opcode 8d"]
    assert [p.words for p in reserved.problems((Insn(0xC2, 0, 0, 0, 0),))] == ["unknown opcode c2"]


def test_what_only_the_standard_reserves():
    insns = (Insn(isa.EXIT, 0, 0, 3, 0),)
    assert list(reserved.problems(insns)) == []
    (problem,) = reserved.problems(insns, strict=True)
    assert str(problem) == "instruction 0: reserved by RFC 9669: off is 3, allowed: 0"


@settings(max_examples=300, derandomize=True, database=None)
@given(st.data())
def test_a_foreign_value_in_any_field_is_refused(data):
    form = data.draw(st.sampled_from([f for f in opcodes.FORMS if f.since[0].isdigit()]))
    name = data.draw(st.sampled_from([n for n in FIELDS if getattr(form, n) is not None] or [""]))
    if not name:
        return
    first, *rest = sample(form)
    changed = dataclasses.replace(first, **{name: data.draw(st.sampled_from(FIELDS[name]))})
    found = opcodes.find(changed)
    problems = list(reserved.problems((changed, *rest)))
    assert (found is None) == bool(problems) or found.since[0].isalpha()


@settings(max_examples=200, derandomize=True, database=None)
@given(code=st.binary(max_size=160).map(lambda data: data[: len(data) // 8 * 8]))
def test_any_bytes_are_judged(code):
    insns = isa.decode(code)
    for problem in reserved.problems(insns, strict=True):
        assert 0 <= problem.pc < len(insns)
        assert str(problem).startswith(f"instruction {problem.pc}: ")


def test_names_of_helpers():
    assert len(NAMES) == 212
    assert [name_of(n) for n in (-1, 1, 12, 211, 212)] == [
        None, "bpf_map_lookup_elem", "bpf_tail_call", "bpf_cgrp_storage_delete", None,
    ]  # fmt: skip
