# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Instructions as text, as `bpftool prog dump xlated` shows them (kernel/bpf/disasm.c of 7.3).

Owns the words of the kernel's dialect, of any bytes, and of the source dialect: the same, but
with other words where the kernel's would not tell two instructions apart, so that the assembler
gives back what was there. Slots and forms are harness.bpf.opcodes'.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.bpf import isa, oddities, opcodes
from harness.bpf.helper_names import name_of
from harness.bpf.isa import Insn
from harness.bpf.link import Program, RefKind
from harness.bpf.opcodes import Form

_SLOT = re.compile(r"\{(\w+)\}")
_M32 = 0xFFFF_FFFF

# the text of one slot, from an instruction and the imm of its second half
Slot = Callable[[Insn, int], str]


def wide_value(insn: Insn, high: int) -> int:
    """The 64-bit immediate of a wide instruction."""
    return (high & _M32) << 32 | insn.imm & _M32


def _helper(insn: Insn, _high: int) -> str:
    return f"{name_of(insn.imm) or 'unknown'}#{insn.imm}"


def _variable(insn: Insn, high: int) -> str:
    return f"btf_id[{insn.imm}]" + (f"+{high & _M32}" if high else "")


KERNEL: dict[str, Slot] = {
    "dst": lambda insn, _: str(insn.dst),
    "src": lambda insn, _: str(insn.src),
    "imm": lambda insn, _: str(insn.imm),
    "uimm": lambda insn, _: hex(insn.imm & _M32),
    "off": lambda insn, _: f"{insn.off:+d}",
    "jump": lambda insn, _: f"pc{insn.off:+d}",
    "far": lambda insn, _: f"pc{insn.imm:+d}",
    "helper": _helper,
    "local": lambda insn, _: f"pc{insn.imm:+d}",
    "kfunc": lambda insn, _: f"kernel-function#{insn.imm}",
    "wide": lambda insn, high: hex(wide_value(insn, high)),
    "map": lambda insn, _: f"map[id:{insn.imm & _M32}]",
    "value": lambda insn, high: f"map[id:{insn.imm & _M32}][0]+{high & _M32}",
    "variable": lambda insn, high: hex(wide_value(insn, high)),
    "function": lambda insn, _: f"subprog[{insn.imm:+d}]",
    "index": lambda insn, high: hex(wide_value(insn, high)),
    "ivalue": lambda insn, high: f"map[idx:{insn.imm & _M32}]+{high & _M32}",
    "to": lambda insn, _: str((insn.imm & _M32) >> 16),
    "from": lambda insn, _: str(insn.imm & 0xFFFF),
}
_SOURCE = KERNEL | {
    "variable": _variable,
    "index": lambda insn, _: f"map[idx:{insn.imm & _M32}]",
}


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers in calls and wide instructions mean to whoever has the program loaded.

    Each function gets the index and the instruction, and gives None where it knows nothing:
    `call` the words behind "call ", `wide` those behind "rN = ".
    """

    call: Callable[[int, Insn], str | None] = lambda _pc, _insn: None
    wide: Callable[[int, Insn], str | None] = lambda _pc, _insn: None


NO_NAMES = Names()


def text(insns: Sequence[Insn], pc: int, names: Names = NO_NAMES) -> str:
    """One instruction in the kernel's dialect, without its opcode in parentheses."""
    insn = insns[pc]
    if insn.is_call and (known := names.call(pc, insn)) is not None:
        return f"call {known}"
    if insn.code == isa.LD_IMM64 and (known := names.wide(pc, insn)) is not None:
        return f"r{insn.dst} = {known}"
    form = opcodes.find(insn)
    if form is None:
        form = oddities.form_of(insn)
    high = insns[pc + 1].imm if pc + 1 < len(insns) else 0
    return fill(form.syntax, insn, high, KERNEL)


def line(insns: Sequence[Insn], pc: int, names: Names = NO_NAMES) -> str:
    """One instruction with its opcode in front, as bpftool prints it behind the index."""
    words = text(insns, pc, names)
    return words if words.startswith("BUG_") else f"({insns[pc].code:02x}) {words}"


def source(insns: Sequence[Insn], pc: int) -> str:
    """One instruction in words that the assembler turns back into it, whatever the bytes are."""
    insn, form = insns[pc], opcodes.find(insns[pc])
    if form is None or not _says_all(form, insns, pc):
        return f".insn 0x{insn.code:02x}, {insn.dst}, {insn.src}, {insn.off}, {insn.imm}"
    high = insns[pc + 1].imm if form.wide else 0
    return fill(form.syntax, insn, high, _SOURCE)


# Whether a form's text holds everything that is in the instruction.
def _says_all(form: Form, insns: Sequence[Insn], pc: int) -> bool:
    if form.name in ("exit", "call_kfunc") and insns[pc].off:
        return False
    if not form.wide:
        return True
    if pc + 1 == len(insns):
        return False
    second = insns[pc + 1]
    if second.code or second.dst or second.src or second.off:
        return False
    return not second.imm or form.name not in ("map_by_fd", "map_by_idx", "code_addr")


def fill(template: str, insn: Insn, high: int, slots: dict[str, Slot]) -> str:
    """A form's text with its slots filled in one dialect."""
    return _SLOT.sub(lambda slot: slots[slot[1]](insn, high), template)


def starts(insns: Sequence[Insn], first: int = 0, end: int | None = None) -> list[int]:
    """Indexes at which instructions begin: not the second slots of wide ones."""
    found, pc, end = [], first, len(insns) if end is None else end
    while pc < end:
        found.append(pc)
        pc += 2 if insns[pc].code == isa.LD_IMM64 else 1
    return found


def listing(program: Program) -> str:
    """The whole program, a header above each function."""
    lines, names = [], linked_names(program)
    for function in program.functions:
        body = starts(program.insns, function.start, function.end)
        lines.append(f"{function.name}:")
        lines += [f"{pc:4}: {line(program.insns, pc, names)}" for pc in body]
    return "\n".join(lines)


def instruction(program: Program, pc: int) -> str:
    """One instruction of a linked program, with the names that the program knows."""
    return text(program.insns, pc, linked_names(program))


def linked_names(program: Program) -> Names:
    """Names for a linked program, whose maps and kernel functions have no number yet."""

    def call(pc: int, insn: Insn) -> str | None:
        ref = program.refs.get(pc)
        if ref is not None:
            return ref.name
        if insn.src != isa.PSEUDO_CALL:
            return None
        target = pc + 1 + insn.imm
        name = next((f"#{f.name}" for f in program.functions if f.start == target), "")
        return f"pc{insn.imm:+d}{name}"

    def wide(pc: int, _insn: Insn) -> str | None:
        ref = program.refs.get(pc)
        if ref is None:
            return None
        if ref.kind is RefKind.MAP:
            return f"map[{ref.name}]"
        if ref.kind is RefKind.GLOBAL:
            return f"map[{ref.name}][0]+{ref.offset}"
        kind = "subprog" if ref.kind is RefKind.FUNCTION else "ksym"
        return f"{kind}[{ref.name}]"

    return Names(call, wide)
