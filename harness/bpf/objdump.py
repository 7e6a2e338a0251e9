# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Objects as text, as `llvm-objdump -d` of LLVM 19 shows them, to the last byte.

Owns LLVM's dialect: hexadecimal numbers, halves of registers, names of places that jumps lead to.
Instructions that LLVM 19 does not know are written as later LLVMs do.
"""

from collections.abc import Iterator, Sequence

from harness.bpf import isa, opcodes
from harness.bpf.disasm import KERNEL, Slot, fill, starts, wide_value
from harness.bpf.isa import INSN_BYTES, Insn
from harness.bpf.opcodes import Form
from harness.bpf.rawelf import RawElf, Section, Symbol

_UNKNOWN = "<unknown>"
_M64 = (1 << 64) - 1
# symbols of llvm-objdump's listing: those of data and sections stand behind those of code
_CODE = ("STT_FUNC",)


def _offset(insn: Insn, _high: int) -> str:
    return f"{'-' if insn.off < 0 else '+'} {hex(abs(insn.off))}"


def _wide(insn: Insn, high: int) -> str:
    value = wide_value(insn, high)
    return hex(value - (1 << 64) if value >> 63 else value)


_LLVM: dict[str, Slot] = KERNEL | {
    "imm": lambda insn, _: hex(insn.imm),
    "uimm": lambda insn, _: hex(insn.imm & 0xFFFFFFFF),
    "off": _offset,
    "jump": lambda insn, _: ("+" if insn.off >= 0 else "") + hex(insn.off),
    "far": lambda insn, _: ("+" if insn.imm >= 0 else "") + hex(insn.imm),
    "wide": _wide,
    "to": lambda insn, _: hex((insn.imm & 0xFFFFFFFF) >> 16),
    "from": lambda insn, _: hex(insn.imm & 0xFFFF),
}


def text(insns: Sequence[Insn], pc: int) -> str:
    """One instruction in LLVM's dialect, without the name of where a jump leads to."""
    insn, form = insns[pc], opcodes.find(insns[pc])
    if form is None or (form.wide and pc + 1 == len(insns)):
        return _UNKNOWN
    high = insns[pc + 1].imm if form.wide else 0
    return fill(form.llvm or form.syntax, insn, high, _LLVM)


def target(form: Form | None, insn: Insn, pc: int) -> int | None:
    """Index that a jump leads to, None for other instructions."""
    if form is None or form.name in ("gotox", "exit") or insn.code & 7 not in (5, 6):
        return None
    if form.name.startswith("call"):
        return None
    return pc + 1 + (insn.imm if insn.code == isa.JA32 else insn.off)


def listing(raw: RawElf) -> str:
    """What `llvm-objdump -d FILE` prints."""
    lines = ["", f"{raw.path}:\tfile format elf64-bpf"]
    for section in raw.sections:
        if section.executable and section.data:
            lines += ["", f"Disassembly of section {section.name}:"]
            lines += _section(raw, section)
    return "\n".join([*lines, ""])


def _section(raw: RawElf, section: Section) -> Iterator[str]:
    symbols = _symbols(raw, section)
    insns = isa.decode(section.data[: len(section.data) // INSN_BYTES * INSN_BYTES])
    for pc in starts(insns):
        at = pc * INSN_BYTES
        for symbol in symbols:
            if symbol.offset == at and symbol is _shown(symbols, at):
                yield ""
                yield f"{at:016x} <{symbol.name}>:"
        size = 2 if insns[pc].code == isa.LD_IMM64 else 1
        code = section.data[at : at + size * INSN_BYTES].hex(" ")
        yield f"{pc:8}:\t{code}\t{text(insns, pc)}{_place(symbols, insns, pc)}"


def _symbols(raw: RawElf, section: Section) -> list[Symbol]:
    found = [
        s for s in raw.symbols
        if s.section == section.index and s.name and s.type != "STT_SECTION"
    ]  # fmt: skip
    return sorted(found, key=lambda symbol: (symbol.offset, symbol.type in _CODE, symbol.name))


# The symbol that stands for an address, if there is one at or before it.
def _shown(symbols: list[Symbol], at: int) -> Symbol | None:
    return next((s for s in reversed(symbols) if s.offset <= at), None)


def _place(symbols: list[Symbol], insns: Sequence[Insn], pc: int) -> str:
    to = target(opcodes.find(insns[pc]), insns[pc], pc)
    # a jump to before the section wraps around the address space
    at = None if to is None else to * INSN_BYTES & _M64
    if at is None or (symbol := _shown(symbols, at)) is None:
        return ""
    offset = at - symbol.offset
    return f" <{symbol.name}{f'+{hex(offset)}' if offset else ''}>"
