# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which instructions a kernel takes: opcodes, registers and reserved fields.

Owns the check of each instruction by itself, in the verifier's words (check_insn_fields() and
check_and_resolve_insns() in kernel/bpf/verifier.c). Older kernels look at some fields only when
the verifier comes to the instruction, with the same words. Where jumps lead is not checked here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.bpf import isa, opcodes
from harness.bpf.isa import Class, Insn
from harness.bpf.opcodes import BY_CODE, Allowed, Form
from harness.errors import ObjectError

# newest kernel of the table; what it takes is taken when nobody says which kernel is meant
NEWEST = (7, 3)
_ALU_WORDS = {"neg": "BPF_NEG", "end": "BPF_END", "mov": "BPF_MOV"}
_CLASS_WORDS = {
    Class.LDX: "BPF_LDX", Class.ST: "BPF_ST", Class.STX: "BPF_STX", Class.LD: "BPF_LD_[ABS|IND]",
}  # fmt: skip
_JUMP_WORDS = {0x00: "BPF_JA", 0x80: "BPF_CALL", 0x90: "BPF_EXIT"}
_MAY_GOTO = 0xE0


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one instruction."""

    # index of the slot
    pc: int
    # what a kernel says in its log
    words: str
    # field and value, where there is one to blame
    field: str = ""
    value: int = 0
    allowed: Allowed = None

    def __str__(self) -> str:
        if not self.field:
            return f"instruction {self.pc}: {self.words}"
        may = "any" if self.allowed is None else _listed(self.allowed)
        name = "imm of the second slot" if self.field == "high" else self.field
        return f"instruction {self.pc}: {self.words}: {name} is {self.value}, allowed: {may}"


def check(insns: Sequence[Insn], kernel: tuple[int, ...] = NEWEST, *, strict: bool = False) -> None:
    """Raise ObjectError for the first instruction that `kernel` does not take.

    `strict` also refuses what RFC 9669 reserves and no kernel looks at.
    """
    problem = next(problems(insns, kernel, strict=strict), None)
    if problem is not None:
        raise ObjectError(str(problem))


def problems(
    insns: Sequence[Insn], kernel: tuple[int, ...] = NEWEST, *, strict: bool = False
) -> Iterator[Problem]:
    """All that is wrong, one for each instruction, in order."""
    pc = 0
    while pc < len(insns):
        insn = insns[pc]
        second = insns[pc + 1] if pc + 1 < len(insns) else None
        problem = _of_one(pc, insn, second, kernel, strict=strict)
        if problem is not None:
            yield problem
        pc += 2 if insn.code == isa.LD_IMM64 else 1


def _of_one(
    pc: int, insn: Insn, second: Insn | None, kernel: tuple[int, ...], *, strict: bool
) -> Problem | None:
    form = opcodes.find(insn)
    if form is None:
        return _misfit(pc, insn, kernel)
    if opcodes.release(form.since) > kernel:
        return Problem(pc, _too_new(insn))
    if form.wide and (problem := _second_slot(pc, form, second)) is not None:
        return problem
    for field in form.unchecked if strict else ():
        value = second.imm if field == "high" and second is not None else getattr(insn, field, 0)
        if value:
            return Problem(pc, "reserved by RFC 9669", field, value, opcodes.ZERO)
    return None


def _second_slot(pc: int, form: Form, second: Insn | None) -> Problem | None:
    if second is None:
        return Problem(pc, "invalid bpf_ld_imm64 insn: its second slot is missing")
    for field in ("code", "dst", "src", "off"):
        if getattr(second, field):
            words = "invalid bpf_ld_imm64 insn"
            return Problem(pc + 1, words, field, getattr(second, field), opcodes.ZERO)
    if form.high is not None and "high" not in form.unchecked and second.imm not in form.high:
        return Problem(pc, "unrecognized bpf_ld_imm64 insn", "high", second.imm, form.high)
    return None


# An opcode or a field that no form has: the field of the form that is nearest.
def _misfit(pc: int, insn: Insn, kernel: tuple[int, ...]) -> Problem:
    forms = [f for f in BY_CODE.get(insn.code, ()) if opcodes.release(f.since) <= kernel]
    for field in ("dst", "src"):
        if getattr(insn, field) >= opcodes.PARAMS:
            value = getattr(insn, field)
            return Problem(pc, f"R{value} is invalid", field, value, opcodes.REGISTER)
    if not forms:
        return Problem(pc, f"unknown opcode {insn.code:02x}")
    fewest = min(forms, key=lambda form: sum(1 for _ in form.wrong_fields(insn)))
    field = next(fewest.wrong_fields(insn))
    allowed = [getattr(form, field) for form in forms if _else_fits(form, insn, field)]
    union = frozenset[int]().union(*(a for a in allowed if a is not None))
    return Problem(
        pc, _words(insn), field, getattr(insn, field), None if None in allowed else union
    )


def _else_fits(form: Form, insn: Insn, field: str) -> bool:
    return set(form.wrong_fields(insn)) <= {field}


def _too_new(insn: Insn) -> str:
    if opcodes.PARAMS in (insn.dst, insn.src):
        return f"R{opcodes.PARAMS} is invalid"
    if insn.cls is Class.STX and insn.mode == "atomic" and insn.size_bytes >= 4:
        return f"BPF_ATOMIC uses invalid atomic opcode {insn.imm:02x}"
    return f"unknown opcode {insn.code:02x}"


# What the verifier prints for a field of this instruction that it does not take.
def _words(insn: Insn) -> str:
    if insn.cls in (Class.ALU, Class.ALU64):
        if insn.code == 0xBF and insn.off == 1:
            return "addr_space_cast insn can only convert between address space 1 and 0"
        return f"{_ALU_WORDS.get(isa.ALU_OPS[insn.op], 'BPF_ALU')} uses reserved fields"
    if insn.cls in (Class.JMP, Class.JMP32):
        if insn.op == _MAY_GOTO:
            return f"invalid may_goto imm {insn.imm}"
        words = _JUMP_WORDS.get(insn.op, "BPF_JMP/JMP32")
        return f"{words}{'|BPF_X' if insn.code == 0x0D else ''} uses reserved fields"
    if insn.code == isa.LD_IMM64:
        return "BPF_LD_IMM64 uses reserved fields" if insn.off else "unrecognized bpf_ld_imm64 insn"
    if insn.mode == "atomic" and insn.cls is Class.STX:
        if insn.imm in isa.ATOMIC_OPS:
            return "invalid atomic operand size"
        return f"BPF_ATOMIC uses invalid atomic opcode {insn.imm & 0xFFFFFFFF:02x}"
    return f"{_CLASS_WORDS[insn.cls]} uses reserved fields"


def _listed(values: frozenset[int]) -> str:
    ordered = sorted(values)
    if len(ordered) > 4 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]} to {ordered[-1]}"
    few = ", ".join(str(v) for v in ordered[:16])
    return few + (", ..." if len(ordered) > 16 else "")
