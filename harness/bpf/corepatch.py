# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""CO-RE relocations in instructions: the number goes where the compiler left room for it.

Owns which instructions may be relocated, and the poison for what a kernel lacks
(bpf_core_patch_insn in tools/lib/bpf/relo_core.c of libbpf 1.5).
"""

import dataclasses
from collections.abc import Sequence

from harness.bpf import isa
from harness.bpf.core import Result, Value
from harness.bpf.isa import Class, Insn
from harness.errors import ObjectError

# number of the helper that is called in place of an instruction that cannot be relocated
POISON = 195896080
_U32, _U64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF
_MAX_OFF = 0x7FFF
_SIZE_BITS = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}


def poisoned(number: int = POISON) -> Insn:
    """A call of a helper that no kernel has."""
    return Insn(isa.CALL, 0, 0, 0, number)


def patch(insns: Sequence[Insn], result: Result) -> tuple[Insn, ...]:
    """The new form of an instruction (of both slots for LD_IMM64), `insns` starting with it.

    Poison where the kernel lacks the field. Raises ObjectError where libbpf refuses the object.
    """
    insn, new, original = insns[0], result.new, result.original
    wide = insn.code == isa.LD_IMM64
    if new is None:
        return (poisoned(), poisoned()) if wide else (poisoned(),)
    if insn.cls in (Class.ALU, Class.ALU64):
        if insn.uses_register:
            raise ObjectError("CO-RE: the relocated instruction has no immediate value")
        _check(insn.imm & _U64, original)
        return (dataclasses.replace(insn, imm=_signed32(new.number)),)
    if insn.cls in (Class.LDX, Class.ST, Class.STX):
        _check(insn.off & _U64, original)
        if new.number > _MAX_OFF:
            raise ObjectError(f"CO-RE: offset {new.number} is too large for a load or store")
        if result.wrong_width:
            return (poisoned(),)
        return (_with_width(dataclasses.replace(insn, off=new.number), original, new),)
    if wide and len(insns) > 1 and not (insn.src or insn.off or insns[1].code):
        _check(insn.imm & _U32 | (insns[1].imm & _U32) << 32, original)
        high = dataclasses.replace(insns[1], imm=_signed32(new.number >> 32))
        return dataclasses.replace(insn, imm=_signed32(new.number)), high
    raise ObjectError(f"CO-RE: an instruction with code {insn.code:#x} cannot be relocated")


def _check(value: int, original: Value) -> None:
    if original.certain and value != original.number & _U64:
        raise ObjectError(
            f"CO-RE: the relocated instruction holds {value}, its type says {original.number}"
        )


def _with_width(insn: Insn, original: Value, new: Value) -> Insn:
    if original.size_bytes == new.size_bytes:
        return insn
    if insn.size_bytes != original.size_bytes or new.size_bytes not in _SIZE_BITS:
        raise ObjectError(
            f"CO-RE: a load or store of {insn.size_bytes} bytes cannot be made one of "
            f"{new.size_bytes}"
        )
    return dataclasses.replace(insn, code=insn.code & ~0x18 | _SIZE_BITS[new.size_bytes])


def _signed32(value: int) -> int:
    value &= _U32
    return value - (1 << 32) if value >> 31 else value
