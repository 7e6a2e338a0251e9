# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The assembler of the public conformance suite's text format.

Owns its syntax: `mov32 %r0, 1`, `ldxdw %r0, [%r1+2]`, `lock fetch add [%r10-8], %r1`,
`jeq %r1, 5, label`, `call local label`. An operation without a width is the 64-bit one. The
verifier's own syntax is harness.bpf.asm's business; what an instruction does is an engine's.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.errors import ObjectError

_FORMAT = struct.Struct("<BBhi")
# 11 to 15: for negative tests; without "%": how the suite wrote them until 2022
_REGISTERS = {f"{sign}r{number}": number for number in range(16) for sign in ("%", "")}
_USE_REGISTER = 0x08
_CLASS32, _CLASS64, _JMP, _JMP32 = 0x04, 0x07, 0x05, 0x06
_ALU = {
    "add": 0x00, "sub": 0x10, "mul": 0x20, "div": 0x30, "or": 0x40, "and": 0x50, "lsh": 0x60,
    "rsh": 0x70, "mod": 0x90, "xor": 0xA0, "mov": 0xB0, "arsh": 0xC0, "sdiv": 0x30, "smod": 0x90,
}  # fmt: skip
_SIGNED = frozenset({"sdiv", "smod"})
_JUMPS = {
    "jeq": 0x10, "jgt": 0x20, "jge": 0x30, "jset": 0x40, "jne": 0x50, "jsgt": 0x60,
    "jsge": 0x70, "jlt": 0xA0, "jle": 0xB0, "jslt": 0xC0, "jsle": 0xD0,
}  # fmt: skip
_SIZES = {"w": 0x00, "h": 0x08, "b": 0x10, "dw": 0x18}
_MEM, _MEMSX, _ATOMIC = 0x60, 0x80, 0xC0
_LDX, _ST, _STX = 0x01, 0x02, 0x03
_LOCKED = {"add": 0x00, "or": 0x40, "and": 0x50, "xor": 0xA0, "xchg": 0xE1, "cmpxchg": 0xF1}
_FETCH = 0x01
_CALL_KINDS = {"helper": 0, "local": 1, "runtime": 2}
_CALL, _CALLX, _EXIT, _JA, _JA32, _LDDW = 0x85, 0x8D, 0x95, 0x05, 0x06, 0x18


@dataclass(slots=True)
class _Slot:
    """One instruction; a jump that names a label is completed when all labels are known."""

    line: int
    code: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0
    label: str = ""

    def aim(self, distance: int) -> None:
        """Put a jump's distance where the instruction keeps it."""
        if self.code in (_CALL, _JA32):
            self.imm = distance
        else:
            self.off = distance


class _BadLineError(Exception):
    """What is wrong with a line; the caller knows which one."""


def assemble(lines: Iterable[tuple[int, str]], name: str) -> bytes:
    """Code of numbered lines without comments. Raises ObjectError that says `name:line: ...`."""
    slots: list[_Slot] = []
    labels: dict[str, int] = {}
    for number, text in lines:
        words = text.replace(",", " ").split()
        if not words:
            continue
        try:
            _line(slots, labels, number, words)
        except _BadLineError as error:
            raise ObjectError(f"{name}:{number}: {error}: {text.strip()!r}") from None
    for index, slot in enumerate(slots):
        if not slot.label:
            continue
        if slot.label not in labels:
            raise ObjectError(f"{name}:{slot.line}: no label {slot.label!r}")
        distance = labels[slot.label] - index - 1
        if slot.code not in (_CALL, _JA32) and not -0x8000 <= distance < 0x8000:
            raise ObjectError(f"{name}:{slot.line}: label {slot.label!r} is out of reach")
        slot.aim(distance)
    return b"".join(_FORMAT.pack(s.code, s.src << 4 | s.dst, s.off, s.imm) for s in slots)


def _line(slots: list[_Slot], labels: dict[str, int], number: int, words: list[str]) -> None:
    word, *operands = words
    if word.endswith(":") and not operands:
        label = word[:-1]
        if label in labels:
            raise _BadLineError(f"label {label!r} is there already")
        labels[label] = len(slots)
        return
    if word == "exit":
        labels.setdefault(word, len(slots))
    encode = _TABLE.get(word)
    if encode is None:
        raise _BadLineError(f"unknown instruction {word!r}")
    slot = _Slot(number, 0)
    try:
        more = encode(slot, operands)
    except ValueError:
        raise _BadLineError(f"wrong number of operands for {word!r}") from None
    slots += [slot] if more is None else [slot, more]


# ---- operands ----------------------------------------------------------------------------------


def _register(text: str) -> int:
    if text not in _REGISTERS:
        raise _BadLineError(f"{text!r} is not a register")
    return _REGISTERS[text]


def _number(text: str, bits: int) -> int:
    """A number that fits the field as signed or as unsigned; signed as the field stores it."""
    try:
        value = int(text, 0) if "0x" in text.lower() else int(text, 10)
    except ValueError:
        raise _BadLineError(f"{text!r} is not a number") from None
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise _BadLineError(f"{text} does not fit {bits} bits")
    return value - (1 << bits) if value >= 1 << bits - 1 else value


def _place(text: str) -> tuple[int, int]:
    """Register and offset of `[%r1+2]`."""
    if not (text.startswith("[") and text.endswith("]")):
        raise _BadLineError(f"{text!r} is not a place in memory, as [%r1+2]")
    inner = text[1:-1]
    cut = max(inner.find("+"), inner.find("-"))
    if cut < 0:
        return _register(inner), 0
    return _register(inner[:cut]), _number(inner[cut:], 16)


def _value(slot: _Slot, text: str) -> None:
    """Second operand: a register or a constant."""
    if text.startswith(("%", "r")):
        slot.code |= _USE_REGISTER
        slot.src = _register(text)
    else:
        slot.imm = _number(text, 32)


def _target(slot: _Slot, text: str) -> None:
    if text[0] in "+-":
        slot.aim(_number(text, 32 if slot.code in (_CALL, _JA32) else 16))
    else:
        slot.label = text


# ---- instructions ------------------------------------------------------------------------------

# fills the slot; gives the second one of an instruction that has two. ValueError: operands
Encode = Callable[[_Slot, list[str]], _Slot | None]


def _binary(code: int, off: int) -> Encode:
    def encode(slot: _Slot, operands: list[str]) -> None:
        left, right = operands
        slot.code, slot.dst, slot.off = code, _register(left), off
        _value(slot, right)

    return encode


def _unary(code: int, imm: int) -> Encode:
    def encode(slot: _Slot, operands: list[str]) -> None:
        (only,) = operands
        slot.code, slot.dst, slot.imm = code, _register(only), imm

    return encode


def _jump(code: int) -> Encode:
    def encode(slot: _Slot, operands: list[str]) -> None:
        left, right, target = operands
        slot.code, slot.dst = code, _register(left)
        _value(slot, right)
        _target(slot, target)

    return encode


def _goto(code: int) -> Encode:
    def encode(slot: _Slot, operands: list[str]) -> None:
        (target,) = operands
        slot.code = code
        _target(slot, target)

    return encode


def _load(code: int) -> Encode:
    def encode(slot: _Slot, operands: list[str]) -> None:
        target, place = operands
        slot.code, slot.dst = code, _register(target)
        slot.src, slot.off = _place(place)

    return encode


def _store(code: int) -> Encode:
    def encode(slot: _Slot, operands: list[str]) -> None:
        place, value = operands
        slot.code = code
        slot.dst, slot.off = _place(place)
        if code & 7 == _ST:
            slot.imm = _number(value, 32)
        else:
            slot.src = _register(value)

    return encode


def _exit(slot: _Slot, operands: list[str]) -> None:
    () = operands
    slot.code = _EXIT


def _call(slot: _Slot, operands: list[str]) -> None:
    """`call 5`, `call %r2`, `call local label`, `call runtime 7`."""
    kind, target = operands if len(operands) > 1 else ["helper", *operands]
    if kind not in _CALL_KINDS:
        raise _BadLineError(f"{kind!r} is no kind of call: {', '.join(_CALL_KINDS)}")
    slot.code, slot.src = _CALL, _CALL_KINDS[kind]
    if kind == "local":
        _target(slot, target)
    elif target.startswith(("%", "r")):
        slot.code, slot.dst = _CALLX, _register(target)
    else:
        slot.imm = _number(target, 32)


def _lddw(slot: _Slot, operands: list[str]) -> _Slot:
    target, value = operands
    number = _number(value, 64)
    slot.code, slot.dst = _LDDW, _register(target)
    slot.imm = _number(str(number & 0xFFFF_FFFF), 32)
    return _Slot(slot.line, 0, imm=number >> 32)


def _lock(slot: _Slot, operands: list[str]) -> None:
    """`lock [fetch] add[32] [place], register`."""
    fetch = operands[:1] == ["fetch"]
    operation, place, value = operands[1:] if fetch else operands
    base = operation.removesuffix("32")
    if base not in _LOCKED:
        raise _BadLineError(f"unknown atomic operation {operation!r}")
    size = "w" if operation != base else "dw"
    slot.code = _STX | _ATOMIC | _SIZES[size]
    slot.dst, slot.off = _place(place)
    slot.src, slot.imm = _register(value), _LOCKED[base] | (_FETCH if fetch else 0)


def _table() -> dict[str, Encode]:
    table: dict[str, Encode] = {
        "exit": _exit, "call": _call, "lddw": _lddw, "lock": _lock,
        "ja": _goto(_JA), "ja32": _goto(_JA32),
        "neg": _unary(0x80 | _CLASS64, 0), "neg32": _unary(0x80 | _CLASS32, 0),
    }  # fmt: skip
    for name, op in _ALU.items():
        table[name] = _binary(op | _CLASS64, int(name in _SIGNED))
        table[name + "32"] = _binary(op | _CLASS32, int(name in _SIGNED))
    for name, op in _JUMPS.items():
        table[name], table[name + "32"] = _jump(op | _JMP), _jump(op | _JMP32)
    for name, size in _SIZES.items():
        table["ldx" + name] = _load(_LDX | _MEM | size)
        table["st" + name] = _store(_ST | _MEM | size)
        table["stx" + name] = _store(_STX | _MEM | size)
        if name != "dw":
            table["ldxs" + name] = _load(_LDX | _MEMSX | size)
    for bits in (16, 32, 64):
        table[f"le{bits}"] = _unary(0xD0 | _CLASS32, bits)
        table[f"be{bits}"] = _unary(0xD0 | _CLASS32 | _USE_REGISTER, bits)
        table[f"swap{bits}"] = table[f"bswap{bits}"] = _unary(0xD0 | _CLASS64, bits)
    for width in (8, 16, 32):
        table[f"movsx{width}64"] = _binary(0xB0 | _CLASS64, width)
        if width < 32:
            table[f"movsx{width}32"] = _binary(0xB0 | _CLASS32, width)
    return table


_TABLE = _table()
