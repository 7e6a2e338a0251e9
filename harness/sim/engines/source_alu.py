# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Python text of arithmetic, for harness.sim.engines.source: registers are local variables.

Owns when a result is cut to 64 or 32 bits. A register is "dirty" while its variable has more bits
than the register, or is negative: its value is the variable & mask. Sums, products and logic only
need the low bits of their operands, so that most cuts are never made. What an operation means is
harness.sim.alu's; a test holds the two against each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.sim.alu import M32

# how long a dirty variable may get
_MOST_BITS = 256

Emit = Callable[[str], None]


@dataclass(slots=True)
class Registers:
    """How the registers stand in the variables at one place of the text."""

    emit: Emit
    # register -> name of its variable
    names: list[str]
    # dirty register -> (bits that count: 64 or 32, bits that the variable may have)
    dirty: dict[int, tuple[int, int]] = field(default_factory=dict)

    def clean(self, register: int) -> str:
        """Name of a register whose variable is its value."""
        found = self.dirty.pop(register, None)
        name = self.names[register]
        if found is not None:
            self.emit(f"{name} &= {(1 << found[0]) - 1}")
        return name

    def low(self, register: int, bits: int) -> str:
        """Name of a register of which the low `bits` count."""
        if bits == 64 and self.dirty.get(register, (64,))[0] == 32:
            return self.clean(register)
        return self.names[register]

    def length(self, register: int) -> int:
        """Bits that the variable may have."""
        return self.dirty.get(register, (64, 64))[1]

    def copy(self, emit: Emit) -> "Registers":
        """The same for another place."""
        return Registers(emit, self.names, dict(self.dirty))


def write(registers: Registers, insn: Insn) -> bool:
    """Write an ALU instruction; False for one that does not exist."""
    bits = 64 if insn.cls is Class.ALU64 else 32
    name = isa.ALU_OPS.get(insn.op, "")
    if name == "end":
        return _swap(registers, insn, bits)
    if name == "mov" and insn.uses_register:
        return _move(registers, insn, bits)
    if name in ("div", "mod") and insn.off == 1:
        name = "s" + name
    elif insn.off:
        return False
    if name not in _WRITERS:
        return False
    right = None if not insn.uses_register else insn.src
    _WRITERS[name](registers, name, insn.dst, right, insn.imm & ((1 << bits) - 1), bits)
    return True


def _set(registers: Registers, register: int, text: str, bits: int, length: int) -> None:
    """Give a register a value that may have `length` bits, of which `bits` count."""
    registers.dirty.pop(register, None)
    if length > _MOST_BITS:
        text = f"({text}) & {(1 << bits) - 1}"
    elif length > bits:
        registers.dirty[register] = (bits, length)
    registers.emit(f"{registers.names[register]} = {text}")


_SIGNS = {"add": "+", "sub": "-", "mul": "*", "or": "|", "and": "&", "xor": "^"}


def _low(registers: Registers, name: str, d: int, s: int | None, c: int, bits: int) -> None:
    """Operations whose low bits only depend on the low bits of the operands."""
    left = registers.low(d, bits)
    right = registers.low(s, bits) if s is not None else str(c)
    lengths = registers.length(d), registers.length(s) if s is not None else c.bit_length()
    if name == "mul":
        length = sum(lengths)
    elif name in ("add", "sub"):
        length = max(lengths) + 1
    elif name == "and":
        length = _and_length(registers, d, s, c)
    else:
        length = max(lengths)
    _set(registers, d, f"{left} {_SIGNS[name]} {right}", bits, length)


def _and_length(registers: Registers, d: int, s: int | None, c: int) -> int:
    """One clean operand makes the result clean."""
    right = (
        c.bit_length() if s is None else registers.length(s) if s not in registers.dirty else None
    )
    left = 64 if d not in registers.dirty else None
    known = [length for length in (left, right) if length is not None]
    return min(known) if known else max(registers.length(d), registers.length(s or 0))


def _left(registers: Registers, _name: str, d: int, s: int | None, c: int, bits: int) -> None:
    left = registers.low(d, bits)
    if s is None:
        distance = c & (bits - 1)
        text, length = f"{left} << {distance}", registers.length(d) + distance
    else:
        text, length = f"{left} << ({registers.names[s]} & {bits - 1})", registers.length(d) + bits
    _set(registers, d, text, bits, max(length, bits + 1))


def _right(registers: Registers, _name: str, d: int, s: int | None, c: int, bits: int) -> None:
    left = _cut(registers, d, bits)
    distance = str(c & (bits - 1)) if s is None else f"({registers.names[s]} & {bits - 1})"
    _set(registers, d, f"{left} >> {distance}", bits, bits)


def _right_signed(
    registers: Registers, _name: str, d: int, s: int | None, c: int, bits: int
) -> None:
    left, sign = _cut(registers, d, bits), 1 << bits - 1
    distance = str(c & (bits - 1)) if s is None else f"({registers.names[s]} & {bits - 1})"
    _set(registers, d, f"({left} ^ {sign}) - {sign} >> {distance}", bits, bits + 1)


def _divide(registers: Registers, name: str, d: int, s: int | None, c: int, bits: int) -> None:
    sign = "//" if name == "div" else "%"
    left, right = _operands(registers, d, s, c, bits)
    otherwise = "0" if name == "div" else left
    if s is None:
        text = f"{left} {sign} {right}" if c else otherwise
    else:
        text = f"{left} {sign} {right} if {right} else {otherwise}"
    _set(registers, d, text, bits, bits)


def _divide_signed(
    registers: Registers, name: str, d: int, s: int | None, c: int, bits: int
) -> None:
    left, right = _operands(registers, d, s, c, bits)
    _set(registers, d, f"{name}{bits}({left}, {right})", bits, bits + 1)


def _operands(registers: Registers, d: int, s: int | None, c: int, bits: int) -> tuple[str, str]:
    """Both operands, cut to `bits`."""
    return _cut(registers, d, bits), str(c) if s is None else _cut(registers, s, bits)


def _cut(registers: Registers, register: int, bits: int) -> str:
    if bits == 64:
        return registers.clean(register)
    return f"({registers.names[register]} & {M32})"


def _constant(registers: Registers, _name: str, d: int, _s: int | None, c: int, bits: int) -> None:
    _set(registers, d, str(c), bits, bits)


def _negate(registers: Registers, _name: str, d: int, _s: int | None, _c: int, bits: int) -> None:
    name = registers.low(d, bits)
    _set(registers, d, f"-{name}", bits, registers.length(d) + 1)


_WRITERS: dict[str, Callable[[Registers, str, int, int | None, int, int], None]] = {
    **dict.fromkeys(_SIGNS, _low),
    "lsh": _left,
    "rsh": _right,
    "arsh": _right_signed,
    "div": _divide,
    "mod": _divide,
    "sdiv": _divide_signed,
    "smod": _divide_signed,
    "mov": _constant,
    "neg": _negate,
}


def _move(registers: Registers, insn: Insn, bits: int) -> bool:
    width, d = insn.off, insn.dst
    if width not in (0, 8, 16, 32) or (width == 32 and bits == 32):
        return False
    source = registers.low(insn.src, bits)
    if width:
        mask, sign = (1 << width) - 1, 1 << width - 1
        _set(registers, d, f"({source} & {mask} ^ {sign}) - {sign}", bits, bits + 1)
    elif bits == 32:
        _set(registers, d, f"{source} & {M32}", 32, 32)
    else:
        dirty = registers.dirty.get(insn.src)
        if d != insn.src:
            registers.dirty.pop(d, None)
            registers.emit(f"{registers.names[d]} = {source}")
            if dirty is not None:
                registers.dirty[d] = dirty
    return True


def _swap(registers: Registers, insn: Insn, bits: int) -> bool:
    width, d = insn.imm, insn.dst
    if width not in (16, 32, 64):
        return False
    name = registers.clean(d)
    if bits == 64 or insn.uses_register:
        _set(registers, d, f"swap({name}, {width})", 64, width)
    elif width < 64:
        _set(registers, d, f"{name} & {(1 << width) - 1}", 64, width)
    return True


_SIGNED = {"sgt": ">", "sge": ">=", "slt": "<", "sle": "<="}
_UNSIGNED = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<=", "set": "&"}


def condition(registers: Registers, insn: Insn) -> str | None:
    """Text of a conditional jump's condition; None for one that does not exist."""
    bits = 64 if insn.cls is Class.JMP else 32
    mask, sign = (1 << bits) - 1, 1 << bits - 1
    name = isa.JUMP_OPS.get(insn.op, "")
    if not name:
        return None
    left, right = _operands(registers, insn.dst, _source(insn), insn.imm & mask, bits)
    if name in _UNSIGNED:
        return f"{left} {_UNSIGNED[name]} {right}"
    signed_right = str(insn.imm & mask ^ sign) if _source(insn) is None else f"({right} ^ {sign})"
    return f"({left} ^ {sign}) {_SIGNED[name]} {signed_right}"


def _source(insn: Insn) -> int | None:
    return insn.src if insn.uses_register else None
