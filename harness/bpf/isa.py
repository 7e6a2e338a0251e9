# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The instruction set: encoding, classes and operation names. Tables, no semantics.

Source: RFC 9669 and Documentation/bpf/standardization/instruction-set.rst. What an instruction
does is harness.sim.engines.reference_insns' business.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from harness.errors import ObjectError

INSN_BYTES = 8
_FORMAT = struct.Struct("<BBhi")


class Class(IntEnum):
    """Low three bits of the opcode."""

    LD = 0
    LDX = 1
    ST = 2
    STX = 3
    ALU = 4
    JMP = 5
    JMP32 = 6
    ALU64 = 7


# bits 4..7 of an ALU opcode
ALU_OPS = {
    0x00: "add", 0x10: "sub", 0x20: "mul", 0x30: "div", 0x40: "or", 0x50: "and",
    0x60: "lsh", 0x70: "rsh", 0x80: "neg", 0x90: "mod", 0xA0: "xor", 0xB0: "mov",
    0xC0: "arsh", 0xD0: "end",
}  # fmt: skip
# bits 4..7 of a conditional jump's opcode
JUMP_OPS = {
    0x10: "eq", 0x20: "gt", 0x30: "ge", 0x40: "set", 0x50: "ne", 0x60: "sgt", 0x70: "sge",
    0xA0: "lt", 0xB0: "le", 0xC0: "slt", 0xD0: "sle",
}  # fmt: skip
SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
MODES = {0x00: "imm", 0x20: "abs", 0x40: "ind", 0x60: "mem", 0x80: "memsx", 0xC0: "atomic"}
ATOMIC_OPS = {
    0x00: "add", 0x40: "or", 0x50: "and", 0xA0: "xor", 0x01: "fetch_add", 0x41: "fetch_or",
    0x51: "fetch_and", 0xA1: "fetch_xor", 0xE1: "xchg", 0xF1: "cmpxchg",
    0x100: "load_acquire", 0x110: "store_release",
}  # fmt: skip

LD_IMM64 = 0x18
CALL = 0x85
CALLX = 0x8D
GOTOX = 0x0D
EXIT = 0x95
JA = 0x05
JA32 = 0x06
MAY_GOTO = 0xE5
USE_REGISTER = 0x08

# src register of LD_IMM64
PSEUDO_MAP_FD = 1
PSEUDO_MAP_VALUE = 2
PSEUDO_BTF_ID = 3
PSEUDO_FUNC = 4
# src register of CALL
HELPER_CALL = 0
PSEUDO_CALL = 1
PSEUDO_KFUNC_CALL = 2
# (opcode, src) of what refers to an instruction of the program by its distance in imm
LEADS_TO_CODE = frozenset({(CALL, PSEUDO_CALL), (LD_IMM64, PSEUDO_FUNC)})


@dataclass(frozen=True, slots=True)
class Insn:
    """One 8-byte slot. LD_IMM64 takes two: the second has opcode 0 and the high half in imm."""

    code: int
    dst: int
    src: int
    # signed 16 bits
    off: int
    # signed 32 bits
    imm: int

    @property
    def cls(self) -> Class:
        """Instruction class."""
        return Class(self.code & 7)

    @property
    def size_bytes(self) -> int:
        """Bytes a load or store moves."""
        return SIZES[self.code & 0x18]

    @property
    def mode(self) -> str:
        """Addressing mode of a load or store, "" for a reserved one."""
        return MODES.get(self.code & 0xE0, "")

    @property
    def op(self) -> int:
        """Bits 4..7: key of ALU_OPS and JUMP_OPS."""
        return self.code & 0xF0

    @property
    def uses_register(self) -> bool:
        """Whether the second operand is `src`, not `imm`."""
        return bool(self.code & USE_REGISTER)

    @property
    def is_call(self) -> bool:
        """Whether it is `call imm` of any kind."""
        return self.code == CALL


def registers_read(insn: Insn) -> tuple[int, ...]:
    """Registers whose value the instruction needs (calls excepted)."""
    return tuple(number for number in _reads(insn) if number <= 10)


def _reads(insn: Insn) -> tuple[int, ...]:
    if insn.cls in (Class.ALU, Class.ALU64):
        return _alu_reads(insn)
    if insn.cls in (Class.JMP, Class.JMP32) and insn.op in JUMP_OPS:
        return (insn.dst, insn.src) if insn.uses_register else (insn.dst,)
    if insn.cls is Class.LDX:
        return (insn.src,)
    if insn.cls is Class.ST:
        return (insn.dst,)
    if insn.cls is Class.STX:
        return _store_reads(insn)
    if insn.cls is Class.LD and insn.mode in ("abs", "ind"):
        return (6, insn.src) if insn.mode == "ind" else (6,)
    return {EXIT: (0,), CALLX: (insn.dst,), GOTOX: (insn.dst,)}.get(insn.code, ())


def _alu_reads(insn: Insn) -> tuple[int, ...]:
    name = ALU_OPS.get(insn.op)
    if name == "mov":
        return (insn.src,) if insn.uses_register else ()
    if name in ("neg", "end") or not insn.uses_register:
        return (insn.dst,)
    return (insn.dst, insn.src)


def _store_reads(insn: Insn) -> tuple[int, ...]:
    name = ATOMIC_OPS.get(insn.imm) if insn.mode == "atomic" else ""
    if name == "load_acquire":
        return (insn.src,)
    return (insn.dst, insn.src, 0) if name == "cmpxchg" else (insn.dst, insn.src)


def decode(code: bytes) -> tuple[Insn, ...]:
    """Decode whole instructions. Raises ObjectError for a length that is not a multiple of 8."""
    if len(code) % INSN_BYTES:
        raise ObjectError(f"code of {len(code)} bytes is not a whole number of instructions")
    return tuple(
        Insn(op, regs & 0xF, regs >> 4, off, imm)
        for op, regs, off, imm in _FORMAT.iter_unpack(code)
    )


def encode(insns: tuple[Insn, ...]) -> bytes:
    """Inverse of decode."""
    return b"".join(_FORMAT.pack(i.code, i.dst | i.src << 4, i.off, i.imm) for i in insns)
