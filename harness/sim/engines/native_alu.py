# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arithmetic and conditions as LLVM IR: harness.sim.alu again, on i64 and i32.

Source: RFC 9669, sections 4.1 to 4.3. Knows no registers and no memory.
"""

from collections.abc import Callable

from harness.bpf.isa import Class, Insn
from harness.sim.alu import M64, signed
from harness.sim.engines.native_text import Text

_PLAIN = {"add": "add", "sub": "sub", "mul": "mul", "or": "or", "and": "and", "xor": "xor"}
_SHIFTS = {"lsh": "shl", "rsh": "lshr", "arsh": "ashr"}
_DIVISIONS = {"div": "udiv", "mod": "urem", "sdiv": "sdiv", "smod": "srem"}
_CONDITIONS = {
    "eq": "eq", "ne": "ne", "gt": "ugt", "ge": "uge", "lt": "ult", "le": "ule",
    "sgt": "sgt", "sge": "sge", "slt": "slt", "sle": "sle",
}  # fmt: skip


def bits_of(insn: Insn) -> int:
    """Width of an ALU or jump instruction."""
    return 64 if insn.cls in (Class.ALU64, Class.JMP) else 32


def alu(text: Text, name: str, insn: Insn, left: str, right: str) -> str:
    """Result, an i64; `left` is unused by moves. Operands are i64: names or decimal numbers."""
    bits = bits_of(insn)
    if name == "mov" and bits == 64:
        return right
    if name == "end":
        return _swap(text, insn, left)
    if name == "movsx":
        narrow = text.op(f"trunc i64 {right} to i{insn.off}")
        wide = text.op(f"sext i{insn.off} {narrow} to i{bits}")
        return wide if bits == 64 else text.op(f"zext i32 {wide} to i64")
    x, y = _cut(text, left, bits), _cut(text, right, bits)
    result = _binary(text, name, bits, x, y)
    return result if bits == 64 else text.op(f"zext i32 {result} to i64")


def _cut(text: Text, value: str, bits: int) -> str:
    if bits == 64:
        return value
    if value.lstrip("-").isdigit():
        return str(signed(int(value), 32))
    return text.op(f"trunc i64 {value} to i32")


def _binary(text: Text, name: str, bits: int, x: str, y: str) -> str:
    kind = f"i{bits}"
    if name == "mov":
        return y if y.startswith("%") else text.op(f"add {kind} 0, {y}")
    if name == "neg":
        return text.op(f"sub {kind} 0, {x}")
    if name in _PLAIN:
        return text.op(f"{_PLAIN[name]} {kind} {x}, {y}")
    if name in _SHIFTS:
        count = text.op(f"and {kind} {y}, {bits - 1}")
        return text.op(f"{_SHIFTS[name]} {kind} {x}, {count}")
    return _divide(text, name, kind, x, y)


def _divide(text: Text, name: str, kind: str, x: str, y: str) -> str:
    """Division by zero and the quotient that does not fit have values in BPF, none in LLVM."""
    zero = text.op(f"icmp eq {kind} {y}, 0")
    odd, minus = zero, ""
    if name.startswith("s"):
        minus = text.op(f"icmp eq {kind} {y}, -1")
        odd = text.op(f"or i1 {zero}, {minus}")
    safe = text.op(f"select i1 {odd}, {kind} 1, {kind} {y}")
    result = text.op(f"{_DIVISIONS[name]} {kind} {x}, {safe}")
    if minus and name == "sdiv":
        negated = text.op(f"sub {kind} 0, {x}")
        result = text.op(f"select i1 {minus}, {kind} {negated}, {kind} {result}")
    by_zero = x if name.endswith("mod") else "0"
    return text.op(f"select i1 {zero}, {kind} {by_zero}, {kind} {result}")


def _swap(text: Text, insn: Insn, value: str) -> str:
    width = insn.imm
    low = value if width == 64 else text.op(f"trunc i64 {value} to i{width}")
    if insn.cls is Class.ALU64 or insn.uses_register:
        low = text.op(f"call i{width} @llvm.bswap.i{width}(i{width} {low})")
    return low if width == 64 else text.op(f"zext i{width} {low} to i64")


def condition(text: Text, name: str, insn: Insn, left: str, right: str) -> str:
    """Whether a jump is taken, an i1."""
    bits = bits_of(insn)
    x, y = _cut(text, left, bits), _cut(text, right, bits)
    if name == "set":
        both = text.op(f"and i{bits} {x}, {y}")
        return text.op(f"icmp ne i{bits} {both}, 0")
    return text.op(f"icmp {_CONDITIONS[name]} i{bits} {x}, {y}")


def atomic(name: str) -> Callable[[Text, int, str, str], str] | None:
    """How an atomic operation makes the new value of (bits, old, operand), cut to `bits`."""
    plain = _PLAIN.get(name.removeprefix("fetch_"))
    if plain is None:
        return None

    def combine(text: Text, bits: int, old: str, operand: str) -> str:
        return text.op(f"{plain} i{bits} {old}, {operand}")

    return combine


def constant(insn: Insn) -> str:
    """The immediate operand, an i64 as a decimal number."""
    return str(signed(insn.imm & M64))
