# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One instruction from its words: fields, ranges, and what a call calls.

Owns which numbers fit into which field. A word that is a label or a name goes along until the
whole text is read (harness.bpf.asm).
"""

from dataclasses import dataclass

from harness.bpf import isa
from harness.bpf.asm_grammar import Reading
from harness.bpf.asm_words import Where, Word
from harness.bpf.helper_names import NAMES, NUMBERS
from harness.bpf.isa import Class, Insn
from harness.bpf.opcodes import Allowed, Form

_S16 = (-0x8000, 0x7FFF)
_S32 = (-0x8000_0000, 0x7FFF_FFFF)
_ANY32 = (-0x8000_0000, 0xFFFF_FFFF)
_ANY64 = (-(1 << 63), (1 << 64) - 1)
# what a name in a wide load refers to, and the source register that says so
_NAMED = {
    "lddw": "type",
    "map_by_fd": "map",
    "map_val_by_fd": "value",
    "var_addr": "extern",
    "code_addr": "function",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """An instruction whose name, if it has one, is not a number yet."""

    insn: Insn
    where: Where
    # imm of the second slot
    high: int | None = None
    name: Word | None = None
    # what the name is for: "jump", "far", "call", "map", "value", "function", "extern",
    # "type"
    kind: str = ""


def make(where: Where, reading: Reading) -> Draft:
    """An instruction. Raises UsageError for a number that does not fit."""
    form, slots = reading.form, reading.slots
    if form.name == "call":
        return _call(where, slots)
    dst, src = (_register(where, form, slots, name) for name in ("dst", "src"))
    off, imm, high, kind = _fixed(form.off), _fixed(form.imm), None, ""
    if "off" in slots:
        off = _number(where, slots["off"], _S16)
        _allowed(where, slots["off"], off, form.off)
    if "imm" in slots:
        imm = _number(where, slots["imm"], _immediate_range(form))
    if "to" in slots:
        imm = _number(where, slots["to"], (0, 0xFFFF)) << 16
        imm |= _number(where, slots["from"], (0, 0xFFFF))
        _allowed(where, slots["to"], imm, form.imm)
    if form.wide:
        imm, high = _wide(where, form, slots)
        kind = _NAMED.get(form.name, "") if "wide" not in slots else ""
    elif form.name == "ja32":
        imm, kind = _number(where, slots["value"], _S32) if "value" in slots else 0, "far"
    elif "value" in slots or "name" in slots:
        off, kind = _number(where, slots["value"], _S16) if "value" in slots else 0, "jump"
    insn = Insn(form.code, dst, src, off, _signed32(imm))
    return Draft(insn, where, high, slots.get("name"), kind)


# The value of a field that the form itself says; 0 where the words say it.
def _fixed(allowed: Allowed) -> int:
    return next(iter(allowed)) if allowed is not None and len(allowed) == 1 else 0


def _register(where: Where, form: Form, slots: dict[str, Word], name: str) -> int:
    allowed: Allowed = getattr(form, name)
    if name not in slots:
        return _fixed(allowed)
    word = slots[name]
    if allowed is not None and word.value not in allowed:
        raise where.mistake(word.column, f"{word.text} cannot stand here: registers are r0 to r10")
    return word.value


def _number(where: Where, word: Word, limits: tuple[int, int]) -> int:
    low, high = limits
    if not low <= word.value <= high:
        bits = (high - low).bit_length()
        raise where.mistake(
            word.column, f"{word.text} does not fit into {bits} bits: {low} to {high}"
        )
    return word.value


def _allowed(where: Where, word: Word, value: int, allowed: Allowed) -> None:
    if allowed is not None and value not in allowed:
        raise where.mistake(word.column, f"{word.text} is not possible in this instruction")


# Where 32 bits are used as they are, 0xffffffff says as much as -1.
def _immediate_range(form: Form) -> tuple[int, int]:
    cls = Class(form.code & 7)
    loose = cls in (Class.ALU, Class.JMP, Class.JMP32) or (cls is Class.ST and form.code != 0x7A)
    return _ANY32 if loose or form.wide else _S32


def _wide(where: Where, form: Form, slots: dict[str, Word]) -> tuple[int, int]:
    if "wide" in slots:
        value = _number(where, slots["wide"], _ANY64)
        return value & 0xFFFF_FFFF, _signed32(value >> 32 & 0xFFFF_FFFF)
    word = slots.get("value") or slots.get("imm")
    limits = _S32 if form.name == "code_addr" else _ANY32
    imm = _number(where, word, limits) if word is not None else 0
    high = _number(where, slots["high"], _ANY32) if "high" in slots else 0
    return imm, _signed32(high)


def _signed32(value: int) -> int:
    return (value & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000


def _call(where: Where, slots: dict[str, Word]) -> Draft:
    name, value = slots.get("name"), slots.get("value")
    if "pc" in slots:
        return _called(where, isa.PSEUDO_CALL, _number(where, slots["pc"], _S32))
    if "kfunc" in slots:
        return _called(where, isa.PSEUDO_KFUNC_CALL, _number(where, slots["kfunc"], _S32))
    if name is None:
        assert value is not None  # the grammar has no other way
        local = value.is_signed
        kind = isa.PSEUDO_CALL if local else isa.HELPER_CALL
        return _called(where, kind, _number(where, value, _S32))
    if value is not None:
        number = _number(where, value, _S32)
        known = NAMES[number] if 0 <= number < len(NAMES) else "unknown"
        kind = isa.HELPER_CALL if name.text == known else isa.PSEUDO_KFUNC_CALL
        return _called(where, kind, number)
    if name.text in NUMBERS and name.text != NAMES[0]:
        return _called(where, isa.HELPER_CALL, NUMBERS[name.text])
    return Draft(Insn(isa.CALL, 0, 0, 0, 0), where, None, name, "call")


def _called(where: Where, kind: int, number: int) -> Draft:
    return Draft(Insn(isa.CALL, 0, kind, 0, number), where)
