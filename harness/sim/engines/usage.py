# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which registers one instruction uses: reads, writes, takes for an address. Bits: 1 << number."""

from harness.bpf import isa
from harness.bpf.isa import Class, Insn, registers_read

ARGUMENTS = 0b11_1110  # R1 to R5


def registers_used(insn: Insn) -> int:
    """Registers that an instruction reads, calls excepted."""
    bits = 0
    for register in registers_read(insn):
        bits |= 1 << register
    return bits


def registers_written(insn: Insn) -> int:
    """Registers, as bits, that hold something else, or nothing, behind an instruction."""
    if insn.code == isa.CALL or is_packet_load(insn):
        return ARGUMENTS | 1
    if insn.cls in (Class.ALU, Class.ALU64, Class.LDX) or insn.code == isa.LD_IMM64:
        return 1 << insn.dst
    if insn.cls is not Class.STX or insn.mode != "atomic":
        return 0
    name = isa.ATOMIC_OPS.get(insn.imm, "")
    if name == "load_acquire":
        return 1 << insn.dst
    if name == "cmpxchg":
        return 1
    return 1 << insn.src if name.startswith("fetch_") or name == "xchg" else 0


def is_packet_load(insn: Insn) -> bool:
    """Whether it is LD_ABS or LD_IND."""
    return insn.cls is Class.LD and insn.mode in ("abs", "ind")


def base_register(insn: Insn) -> int:
    """Register with the address of a load or store."""
    if insn.code & 7 == Class.LDX:
        return insn.src
    acquires = insn.mode == "atomic" and isa.ATOMIC_OPS.get(insn.imm, "") == "load_acquire"
    return insn.src if acquires else insn.dst
