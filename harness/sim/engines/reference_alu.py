# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The arithmetic of the reference interpreter: closures for ALU and ALU64 instructions.

The values are harness.sim.alu's; what else an instruction does is reference_insns'.
"""

import functools
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.bpf.program import Program
from harness.sim import alu
from harness.sim.alu import M32, signed
from harness.sim.engines import Registers, Step, expressions
from harness.sim.signals import Fault

if TYPE_CHECKING:
    from harness.sim.machine import Machine


def bad(pc: int, insn: Insn) -> Callable[[Registers], Any]:
    """For an encoding that does not exist; it only counts when it is reached."""

    def fault(_regs: Registers) -> Any:
        raise Fault(f"unknown opcode 0x{insn.code:02x} (offset {insn.off}) at {pc}")

    return fault


def arithmetic(machine: "Machine", program: Program, pc: int, insn: Insn) -> Step:
    """Closure for an instruction of class ALU or ALU64."""
    bits = 64 if insn.cls is Class.ALU64 else 32
    name = isa.ALU_OPS.get(insn.op, "")
    if name == "end":
        return _swap(pc, insn, bits)
    if name == "mov" and insn.uses_register:
        return _move(machine, program, pc, insn, bits)
    if name == "neg":
        return _negate(insn, bits)
    if name in ("div", "mod") and insn.off == 1:
        name = "s" + name
    elif insn.off or not name:
        return bad(pc, insn)
    return _binary(name, insn, bits)


def _binary(name: str, insn: Insn, bits: int) -> Step:
    mask, d, s = (1 << bits) - 1, insn.dst, insn.src
    right = "regs[s]" if insn.uses_register else "c"
    if name == "mov" and not insn.uses_register:
        return _step_of("c")(d, s, insn.imm & mask)
    common = (expressions.ALU64 if bits == 64 else expressions.ALU32).get(name)
    if common is not None:
        return _step_of(common.format(a="regs[d]", b=right))(d, s, insn.imm & mask)
    operation = (alu.ALU64 if bits == 64 else alu.ALU32)[name]
    constant = insn.imm & mask
    if insn.uses_register:

        def with_register(regs: Registers) -> None:
            regs[d] = operation(regs[d] & mask, regs[s] & mask) & mask

        return with_register

    def with_constant(regs: Registers) -> None:
        regs[d] = operation(regs[d] & mask, constant) & mask

    return with_constant


@functools.cache
def _step_of(expression: str) -> Callable[[int, int, int], Step]:
    """A function of d, s and the constant c that makes the step `regs[d] = expression`."""
    made: Callable[[int, int, int], Step] = defined(f"""
def make(d, s, c):
    def step(regs):
        regs[d] = {expression}
    return step
""")
    return made


def defined(text: str) -> Any:
    """The function `make` of a text that is made of expressions.py."""
    names: dict[str, Any] = dict(expressions.NAMES)
    exec(text, names)  # noqa: S102
    return names["make"]


def _negate(insn: Insn, bits: int) -> Step:
    mask, d = (1 << bits) - 1, insn.dst

    def negate(regs: Registers) -> None:
        regs[d] = -regs[d] & mask

    return negate


def arenas(machine: "Machine") -> Any:
    """The rules of arenas, None without maps: bpfthrow-plugin is to import little."""
    return import_module("harness.sim.mapkinds.arenas") if machine.maps else None


def _cast(machine: "Machine", program: Program, insn: Insn) -> Step:
    """addr_space_cast: to the kernel's 32 bits of an arena pointer, or to user space's address."""
    rules, d, s = arenas(machine), insn.dst, insn.src
    arena = rules.of(machine, program) if rules is not None else None
    to_kernel = rules is not None and insn.imm == rules.TO_KERNEL

    def cast(regs: Registers) -> None:
        if arena is None:
            raise Fault(
                "addr_space_cast insn can only be used in a program that has an associated arena"
            )
        regs[d] = regs[s] & M32 if to_kernel else arena.user(regs[s])

    return cast


def _move(machine: "Machine", program: Program, pc: int, insn: Insn, bits: int) -> Step:
    mask, d, s, width = (1 << bits) - 1, insn.dst, insn.src, insn.off
    if width == 1 and bits == 64:
        return _cast(machine, program, insn)
    if width not in (0, 8, 16, 32) or (width == 32 and bits == 32):
        return bad(pc, insn)
    if width == 0:

        def move(regs: Registers) -> None:
            regs[d] = regs[s] & mask

        return move

    def move_signed(regs: Registers) -> None:
        regs[d] = signed(regs[s], width) & mask

    return move_signed


def _swap(pc: int, insn: Insn, bits: int) -> Step:
    """`le`, `be` (class ALU) and `bswap` (class ALU64); the simulated CPU is little endian."""
    width, d = insn.imm, insn.dst
    if width not in (16, 32, 64):
        return bad(pc, insn)
    mask = (1 << width) - 1
    reverses = bits == 64 or insn.uses_register

    def swap(regs: Registers) -> None:
        regs[d] = alu.swap(regs[d], width) if reverses else regs[d] & mask

    return swap
