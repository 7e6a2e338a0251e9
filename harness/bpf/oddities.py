# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How the kernel shows instructions that it never takes.

Owns the text of every opcode and field that no form of the table has, as print_bpf_insn() in
kernel/bpf/disasm.c of 7.3 prints it, its "(null)" included: a listing of any bytes is the same.
"""

from harness.bpf import isa, opcodes
from harness.bpf.isa import Class, Insn
from harness.bpf.opcodes import NEVER, Form

_KINDS = {0x00: "u32", 0x08: "u16", 0x10: "u8", 0x18: "u64"}
_SIGNS = {
    0x00: "+=", 0x10: "-=", 0x20: "*=", 0x30: "/=", 0x40: "|=", 0x50: "&=", 0x60: "<<=",
    0x70: ">>=", 0x80: "neg", 0x90: "%=", 0xA0: "^=", 0xB0: "=", 0xC0: "s>>=", 0xD0: "endian",
}  # fmt: skip
_JUMPS = {
    0x00: "jmp", 0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&", 0x50: "!=", 0x60: "s>",
    0x70: "s>=", 0x80: "call", 0x90: "exit", 0xA0: "<", 0xB0: "<=", 0xC0: "s<", 0xD0: "s<=",
}  # fmt: skip
# printf("%s", NULL)
_NULL = "(null)"
_PROBE_ATOMIC = 0xE0


def form_of(insn: Insn) -> Form:
    """A form that only serves to print `insn`."""
    return Form("odd", insn.code, _SYNTAX[insn.cls](insn), "", NEVER)


def _alu(insn: Insn) -> str:
    r = "r" if insn.cls is Class.ALU64 else "w"
    if insn.op == 0xD0:
        name = "bswap" if r == "r" else "be" if insn.uses_register else "le"
        return f"r{{dst}} = {name}{{imm}} r{{dst}}"
    if insn.op == 0x80:
        return f"{r}{{dst}} = -{r}{{dst}}"
    if insn.code == 0xBF and insn.off == 1:
        return "r{dst} = addr_space_cast(r{src}, {to}, {from})"
    if insn.code == 0xBF and insn.off == -1:
        return "r{dst} = &(void __percpu *)(r{src})"
    sign = _SIGNS.get(insn.op, _NULL)
    if insn.op in (0x30, 0x90) and insn.off == 1:
        sign = f"s{sign}"
    if not insn.uses_register:
        return f"{r}{{dst}} {sign} {{imm}}"
    cast = f"(s{insn.off})" if insn.op == 0xB0 and insn.off in (8, 16, 32) else ""
    return f"{r}{{dst}} {sign} {cast}{r}{{src}}"


def _jump(insn: Insn) -> str:
    if insn.op == 0x80:
        if insn.src == isa.PSEUDO_CALL:
            return "call {local}"
        return {0: "call {helper}", 2: "call {kfunc}"}.get(insn.src, "call unknown#{imm}")
    fixed = {
        isa.JA: "goto {jump}", isa.JA32: "gotol {far}", isa.EXIT: "exit", 0x0D: "gotox r{dst}",
    }  # fmt: skip
    if insn.code in fixed:
        return fixed[insn.code]
    if insn.code == isa.MAY_GOTO and insn.src == 0:
        return "may_goto {jump}"
    r, sign = "r" if insn.cls is Class.JMP else "w", _JUMPS.get(insn.op, _NULL)
    operand = f"{r}{{src}}" if insn.uses_register else "{uimm}"
    return f"if {r}{{dst}} {sign} {operand} goto {{jump}}"


def _store(insn: Insn) -> str:
    kind, mode = _KINDS[insn.code & 0x18], insn.code & 0xE0
    if mode == 0x60:
        return f"*({kind} *)(r{{dst}} {{off}}) = r{{src}}"
    if mode not in (0xC0, _PROBE_ATOMIC) or insn.imm not in isa.ATOMIC_OPS:
        return f"BUG_{insn.code:02x}"
    probe, name = "probe " if mode == _PROBE_ATOMIC else "", isa.ATOMIC_OPS[insn.imm]
    at, long = f"({kind} *)(r{{dst}} {{off}})", "64" if kind == "u64" else ""
    if name == "load_acquire":
        return f"{probe}r{{dst}} = load_acquire(({kind} *)(r{{src}} {{off}}))"
    if name == "store_release":
        return f"{probe}store_release({at}, r{{src}})"
    if name == "cmpxchg":
        return f"{probe}r0 = atomic{long}_cmpxchg({at}, r0, r{{src}})"
    if name == "xchg" or name.startswith("fetch_"):
        return f"{probe}r{{src}} = atomic{long}_{name}({at}, r{{src}})"
    return f"{probe}lock *{at} {_SIGNS[insn.imm & 0xF0]} r{{src}}"


def _store_constant(insn: Insn) -> str:
    mode = insn.code & 0xE0
    if mode == 0x60:
        return f"*({_KINDS[insn.code & 0x18]} *)(r{{dst}} {{off}}) = {{imm}}"
    return "nospec" if mode == 0xC0 else f"BUG_st_{insn.code:02x}"


def _load(insn: Insn) -> str:
    mode, kind = insn.code & 0xE0, _KINDS[insn.code & 0x18]
    if mode not in (0x60, 0x80) or (mode == 0x80 and kind == "u64"):
        return f"BUG_ldx_{insn.code:02x}"
    kind = kind if mode == 0x60 else kind.replace("u", "s")
    return f"r{{dst}} = *({kind} *)(r{{src}} {{off}})"


def _load_special(insn: Insn) -> str:
    mode, kind = insn.code & 0xE0, _KINDS[insn.code & 0x18]
    if mode == 0x20:
        return f"r0 = *({kind} *)skb[{{imm}}]"
    if mode == 0x40:
        return f"r0 = *({kind} *)skb[r{{src}} + {{imm}}]"
    if insn.code != isa.LD_IMM64:
        return f"BUG_ld_{insn.code:02x}"
    shown = {f.src: f.syntax for f in opcodes.BY_CODE[insn.code]}
    return shown.get(frozenset({insn.src}), "r{dst} = {wide}")


_SYNTAX = {
    Class.LD: _load_special,
    Class.LDX: _load,
    Class.ST: _store_constant,
    Class.STX: _store,
    Class.ALU: _alu,
    Class.JMP: _jump,
    Class.JMP32: _jump,
    Class.ALU64: _alu,
}
