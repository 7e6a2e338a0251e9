# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Instructions as text, in the verifier's syntax (kernel/bpf/disasm.c).

Owns the words of a listing. Knows names only as far as the linked program has them.
"""

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.bpf.link import Program

_ALU = {
    "add": "+=", "sub": "-=", "mul": "*=", "div": "/=", "or": "|=", "and": "&=", "lsh": "<<=",
    "rsh": ">>=", "mod": "%=", "xor": "^=", "mov": "=", "arsh": "s>>=",
}  # fmt: skip
_COMPARE = {
    "eq": "==", "gt": ">", "ge": ">=", "set": "&", "ne": "!=", "sgt": "s>", "sge": "s>=",
    "lt": "<", "le": "<=", "slt": "s<", "sle": "s<=",
}  # fmt: skip
_ATOMIC = {"add": "+=", "or": "|=", "and": "&=", "xor": "^="}


def listing(program: Program) -> str:
    """The whole program, a header above each function."""
    starts = {f.start: f.name for f in program.functions}
    lines = []
    skip = False
    for pc, insn in enumerate(program.insns):
        if pc in starts:
            lines.append(f"{starts[pc]}:")
        if not skip:
            lines.append(f"{pc:4}: {instruction(program, pc)}")
        skip = insn.code == isa.LD_IMM64
    return "\n".join(lines)


def instruction(program: Program, pc: int) -> str:
    """One instruction of a linked program."""
    insn = program.insns[pc]
    if insn.cls in (Class.ALU, Class.ALU64):
        return _alu(insn)
    if insn.cls in (Class.JMP, Class.JMP32):
        return _jump(program, pc, insn)
    if insn.cls is Class.LD:
        return _load_immediate(program, pc, insn)
    return _memory(insn)


def _register(insn: Insn, number: int) -> str:
    return f"{'r' if insn.cls in (Class.ALU64, Class.JMP) else 'w'}{number}"


def _operand(insn: Insn) -> str:
    return _register(insn, insn.src) if insn.uses_register else str(insn.imm)


def _alu(insn: Insn) -> str:
    name, dst = isa.ALU_OPS.get(insn.op), _register(insn, insn.dst)
    if name == "end":
        if insn.cls is Class.ALU64:
            return f"r{insn.dst} = bswap{insn.imm} r{insn.dst}"
        order = "be" if insn.uses_register else "le"
        return f"r{insn.dst} = {order}{insn.imm} r{insn.dst}"
    if name == "neg":
        return f"{dst} = -{dst}"
    if name is None:
        return f"(0x{insn.code:02x}) unknown"
    if name == "mov" and insn.off and insn.uses_register:
        return f"{dst} = (s{insn.off}){_operand(insn)}"
    sign = "s" if name in ("div", "mod") and insn.off == 1 else ""
    return f"{dst} {sign}{_ALU[name]} {_operand(insn)}"


def _jump(program: Program, pc: int, insn: Insn) -> str:
    if insn.code == isa.EXIT:
        return "exit"
    if insn.code == isa.CALL:
        return _call(program, pc, insn)
    if insn.code == isa.JA:
        return f"goto pc{insn.off:+d}"
    if insn.code == isa.JA32:
        return f"gotol pc{insn.imm:+d}"
    if insn.code == isa.MAY_GOTO:
        return f"may_goto pc{insn.off:+d}"
    name = isa.JUMP_OPS.get(insn.op)
    if name is None:
        return f"(0x{insn.code:02x}) unknown"
    dst = _register(insn, insn.dst)
    return f"if {dst} {_COMPARE[name]} {_operand(insn)} goto pc{insn.off:+d}"


def _call(program: Program, pc: int, insn: Insn) -> str:
    ref = program.refs.get(pc)
    if ref is not None:
        return f"call {ref.name}"
    if insn.src == isa.PSEUDO_CALL:
        return f"call {program.function_at(pc + 1 + insn.imm).name}"
    return f"call helper#{insn.imm}"


def _load_immediate(program: Program, pc: int, insn: Insn) -> str:
    if insn.code != isa.LD_IMM64:
        return f"(0x{insn.code:02x}) unknown"
    ref = program.refs.get(pc)
    if ref is not None:
        return f"r{insn.dst} = {ref.kind} {ref.name}" + (f"+{ref.offset}" if ref.offset else "")
    high = program.insns[pc + 1].imm if pc + 1 < len(program.insns) else 0
    return f"r{insn.dst} = 0x{(high & 0xFFFFFFFF) << 32 | insn.imm & 0xFFFFFFFF:x}"


def _memory(insn: Insn) -> str:
    kind = f"{'s' if insn.mode == 'memsx' else 'u'}{insn.size_bytes * 8}"
    if insn.cls is Class.LDX:
        return f"r{insn.dst} = *({kind} *)(r{insn.src} {insn.off:+d})"
    place = f"*({kind} *)(r{insn.dst} {insn.off:+d})"
    if insn.mode == "atomic":
        return _atomic(insn, place)
    return f"{place} = " + (str(insn.imm) if insn.cls is Class.ST else f"r{insn.src}")


def _atomic(insn: Insn, place: str) -> str:
    name = isa.ATOMIC_OPS.get(insn.imm)
    if name in _ATOMIC:
        return f"lock {place} {_ATOMIC[name]} r{insn.src}"
    if name == "load_acquire":
        return f"r{insn.dst} = load_acquire({place.replace(f'r{insn.dst} ', f'r{insn.src} ')})"
    if name == "store_release":
        return f"store_release({place}, r{insn.src})"
    if name == "cmpxchg":
        return f"r0 = atomic_cmpxchg({place}, r0, r{insn.src})"
    if name is None:
        return f"(0x{insn.code:02x}) unknown atomic 0x{insn.imm:x}"
    return f"r{insn.src} = atomic_{name}({place}, r{insn.src})"
