# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which instructions native code does by itself.

Only encodings in their one valid form, with all reserved fields zero. All others are left to the
reference interpreter, one at a time, so that they mean the same in every engine.
"""

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.bpf.link import Program, RefKind

_SWAP_BITS = (16, 32, 64)
_MOVES = (0x100, 0x110)  # load_acquire, store_release
_LOAD_8_SIGNED = 0x99
_JUMPS = frozenset({isa.JA, isa.JA32, isa.EXIT, isa.CALL, isa.MAY_GOTO})


def alu_name(insn: Insn) -> str:
    """Operation of an ALU instruction in its only valid form; "" when it is left to Python."""
    name = isa.ALU_OPS.get(insn.op, "")
    if name == "end":
        valid = insn.imm in _SWAP_BITS and not insn.off and not insn.src
        return name if valid and (insn.cls is Class.ALU or not insn.uses_register) else ""
    if name == "neg":
        return "" if insn.off or insn.src or insn.imm or insn.uses_register else name
    if insn.imm if insn.uses_register else insn.src:
        return ""
    if name in ("div", "mod") and insn.off == 1:
        return "s" + name
    if name == "mov" and insn.uses_register and insn.off in _widths(insn):
        return "movsx"
    return "" if insn.off else name


def _widths(insn: Insn) -> tuple[int, ...]:
    return (8, 16, 32) if insn.cls is Class.ALU64 else (8, 16)


def jump_name(insn: Insn) -> str:
    """Condition of a jump in its only valid form; "" when it is left to Python."""
    if insn.imm if insn.uses_register else insn.src:
        return ""
    return isa.JUMP_OPS.get(insn.op, "")


def simple_access(insn: Insn) -> bool:
    """A load, store or atomic in its only valid form."""
    if insn.cls is Class.LDX:
        valid = insn.mode == "mem" or (insn.mode == "memsx" and insn.code != _LOAD_8_SIGNED)
        return valid and not insn.imm
    if insn.cls is Class.ST:
        return insn.mode == "mem" and not insn.src
    if insn.mode == "mem":
        return not insn.imm
    wide = insn.size_bytes >= 4 or insn.imm in _MOVES
    return insn.mode == "atomic" and insn.imm in isa.ATOMIC_OPS and wide


def accesses(insn: Insn) -> tuple[int, int, bool, bool] | None:
    """(base register, offset, reads, writes) of a load, store or atomic in its valid form."""
    if insn.cls not in (Class.LDX, Class.ST, Class.STX) or not simple_access(insn):
        return None
    if insn.cls is Class.LDX:
        return insn.src, insn.off, True, False
    if insn.cls is Class.ST or insn.mode == "mem":
        return insn.dst, insn.off, False, True
    name = isa.ATOMIC_OPS[insn.imm]
    if name == "load_acquire":
        return insn.src, insn.off, True, False
    return insn.dst, insn.off, name != "store_release", True


def is_control(insn: Insn) -> bool:
    """A jump, call or exit that native code knows."""
    return insn.code in _JUMPS or bool(jump_name(insn))


def simple(program: Program, pc: int) -> bool:
    """Whether native code does instruction `pc` by itself, calls and jumps excepted."""
    insn = program.insns[pc]
    if insn.cls in (Class.ALU, Class.ALU64):
        return bool(alu_name(insn))
    if insn.code == isa.LD_IMM64:
        ref = program.refs.get(pc)
        if ref is not None:
            return ref.kind in (RefKind.MAP, RefKind.GLOBAL)
        second = program.insns[pc + 1] if pc + 1 < len(program.insns) else insn
        reserved = second.code or second.dst or second.src or second.off
        return not (insn.src or insn.off or reserved)
    return insn.cls in (Class.LDX, Class.ST, Class.STX) and simple_access(insn)


def stepped(program: Program, pc: int) -> bool:
    """Whether the reference interpreter does instruction `pc` on all registers."""
    insn = program.insns[pc]
    if insn.cls in (Class.JMP, Class.JMP32):
        return not is_control(insn)
    return insn.code != isa.LD_IMM64 and not simple(program, pc)


def asks_python(program: Program, pc: int) -> bool:
    """Whether Python may run at instruction `pc` whatever its operands are."""
    insn = program.insns[pc]
    if insn.cls in (Class.JMP, Class.JMP32):
        return insn.code == isa.CALL or not is_control(insn)
    return not simple(program, pc)
