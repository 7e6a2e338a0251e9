# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Instructions become Python closures: each takes the registers and returns the next index.

Owns what one instruction does. A register that holds nothing is None: every operation on it
raises TypeError, which the machine turns into a fault with the register's name, so that no
instruction pays for the check. Frames, calls and unwinding are harness.sim.machine's business.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.bpf.link import Program, Ref, RefKind
from harness.sim import alu
from harness.sim.alu import M32, M64, signed
from harness.sim.signals import Fault, Unsupported
from harness.sim.structure import check_structure, jump_target

if TYPE_CHECKING:
    from harness.sim.machine import Machine

# A register is an int, or None while nothing was put in it.
Registers = list[Any]
Step = Callable[[Registers], int]
# what a step returns to leave the function
EXIT = -1


def compile_program(machine: "Machine", program: Program) -> list[Step]:
    """One step per instruction slot of `program`. Raises Fault for code that leaves a function."""
    check_structure(program)
    steps: list[Step] = []
    for pc, insn in enumerate(program.insns):
        make = _MAKERS[insn.cls]
        steps.append(make(machine, program, pc, insn))
    return steps


def _bad(pc: int, insn: Insn) -> Step:
    """A step for an encoding that does not exist; it only counts when it is reached."""

    def fault(_regs: Registers) -> int:
        raise Fault(f"unknown opcode 0x{insn.code:02x} (offset {insn.off}) at {pc}")

    return fault


def _alu(_machine: "Machine", _program: Program, pc: int, insn: Insn) -> Step:
    bits = 64 if insn.cls is Class.ALU64 else 32
    name = isa.ALU_OPS.get(insn.op, "")
    if name == "end":
        return _swap(pc, insn, bits)
    if name == "mov" and insn.uses_register:
        return _move(pc, insn, bits)
    if name == "neg":
        return _negate(pc, insn, bits)
    if name in ("div", "mod") and insn.off == 1:
        name = "s" + name
    elif insn.off or not name:
        return _bad(pc, insn)
    return _binary(name, pc, insn, bits)


def _binary(name: str, pc: int, insn: Insn, bits: int) -> Step:
    mask, d, s, following = (1 << bits) - 1, insn.dst, insn.src, pc + 1
    operation = (alu.ALU64 if bits == 64 else alu.ALU32)[name]
    constant = insn.imm & mask

    if name == "mov":

        def move_constant(regs: Registers) -> int:
            regs[d] = constant
            return following

        return move_constant
    if insn.uses_register:

        def with_register(regs: Registers) -> int:
            regs[d] = operation(regs[d] & mask, regs[s] & mask) & mask
            return following

        return with_register
    if name == "add" and bits == 64:

        def add_constant(regs: Registers) -> int:
            regs[d] = (regs[d] + constant) & M64
            return following

        return add_constant

    def with_constant(regs: Registers) -> int:
        regs[d] = operation(regs[d] & mask, constant) & mask
        return following

    return with_constant


def _negate(pc: int, insn: Insn, bits: int) -> Step:
    mask, d, following = (1 << bits) - 1, insn.dst, pc + 1

    def negate(regs: Registers) -> int:
        regs[d] = -regs[d] & mask
        return following

    return negate


def _move(pc: int, insn: Insn, bits: int) -> Step:
    mask, d, s, following, width = (1 << bits) - 1, insn.dst, insn.src, pc + 1, insn.off
    if width not in (0, 8, 16, 32) or (width == 32 and bits == 32):
        return _bad(pc, insn)
    if width == 0:

        def move(regs: Registers) -> int:
            regs[d] = regs[s] & mask
            return following

        return move

    def move_signed(regs: Registers) -> int:
        regs[d] = signed(regs[s], width) & mask
        return following

    return move_signed


def _swap(pc: int, insn: Insn, bits: int) -> Step:
    """`le`, `be` (class ALU) and `bswap` (class ALU64); the simulated CPU is little endian."""
    width, d, following = insn.imm, insn.dst, pc + 1
    if width not in (16, 32, 64):
        return _bad(pc, insn)
    mask = (1 << width) - 1
    reverses = bits == 64 or insn.uses_register

    def swap(regs: Registers) -> int:
        regs[d] = alu.swap(regs[d], width) if reverses else regs[d] & mask
        return following

    return swap


def _jump(machine: "Machine", program: Program, pc: int, insn: Insn) -> Step:
    if insn.code == isa.EXIT:
        return _exit
    if insn.code == isa.CALL:
        return _call(machine, program, pc, insn)
    if insn.code in (isa.JA, isa.JA32):
        return _goto(machine, jump_target(pc, insn) or 0, pc)
    if insn.code == isa.MAY_GOTO:
        return _may_goto(machine, pc)
    name = isa.JUMP_OPS.get(insn.op)
    if name is None:
        return _bad(pc, insn)
    return _branch(machine, name, pc, insn)


def _exit(_regs: Registers) -> int:
    return EXIT


def _goto(machine: "Machine", target: int, pc: int) -> Step:
    cost = pc + 1 - target

    def forward(_regs: Registers) -> int:
        return target

    def backward(_regs: Registers) -> int:
        machine.spend(cost)
        return target

    return backward if cost > 0 else forward


def _may_goto(machine: "Machine", pc: int) -> Step:
    """Jumps only when 8 Mi rounds are used up: the budget ends before that."""

    def go_on(_regs: Registers) -> int:
        machine.spend(1)
        return pc + 1

    return go_on


def _branch(machine: "Machine", name: str, pc: int, insn: Insn) -> Step:
    """A conditional jump; only one that goes backwards costs budget."""
    bits = 64 if insn.cls is Class.JMP else 32
    mask, d, s, following = (1 << bits) - 1, insn.dst, insn.src, pc + 1
    holds = (alu.COMPARE64 if bits == 64 else alu.COMPARE32)[name]
    taken, cost, constant = following + insn.off, -insn.off, insn.imm & mask
    if insn.uses_register:

        def with_register(regs: Registers) -> int:
            if holds(regs[d] & mask, regs[s] & mask):
                if cost > 0:
                    machine.spend(cost)
                return taken
            return following

        return with_register

    def with_constant(regs: Registers) -> int:
        if holds(regs[d] & mask, constant):
            if cost > 0:
                machine.spend(cost)
            return taken
        return following

    return with_constant


def _load(machine: "Machine", _program: Program, pc: int, insn: Insn) -> Step:
    d, s, off, size, following = insn.dst, insn.src, insn.off, insn.size_bytes, pc + 1
    load = machine.memory.load
    if insn.mode == "mem":

        def plain(regs: Registers) -> int:
            regs[d] = load((regs[s] + off) & M64, size)
            return following

        return plain
    if insn.mode != "memsx" or size == 8:
        return _bad(pc, insn)

    def sign_extended(regs: Registers) -> int:
        regs[d] = signed(load((regs[s] + off) & M64, size), size * 8) & M64
        return following

    return sign_extended


def _store_constant(machine: "Machine", _program: Program, pc: int, insn: Insn) -> Step:
    d, off, size, following = insn.dst, insn.off, insn.size_bytes, pc + 1
    store, value = machine.memory.store, insn.imm & M64
    if insn.mode != "mem":
        return _bad(pc, insn)

    def step(regs: Registers) -> int:
        store((regs[d] + off) & M64, size, value)
        return following

    return step


def _store(machine: "Machine", _program: Program, pc: int, insn: Insn) -> Step:
    if insn.mode == "atomic":
        return _atomic(machine, pc, insn)
    d, s, off, size, following = insn.dst, insn.src, insn.off, insn.size_bytes, pc + 1
    store = machine.memory.store
    if insn.mode != "mem":
        return _bad(pc, insn)

    def step(regs: Registers) -> int:
        store((regs[d] + off) & M64, size, regs[s] & M64)
        return following

    return step


def _atomic(machine: "Machine", pc: int, insn: Insn) -> Step:
    name, size = isa.ATOMIC_OPS.get(insn.imm, ""), insn.size_bytes
    moves = name in ("load_acquire", "store_release")
    if not name or (size < 4 and not moves):
        return _bad(pc, insn)
    d, s, off, following = insn.dst, insn.src, insn.off, pc + 1
    memory, bits = machine.memory, size * 8
    if name == "load_acquire":

        def acquire(regs: Registers) -> int:
            regs[d] = memory.load((regs[s] + off) & M64, size)
            return following

        return acquire

    def step(regs: Registers) -> int:
        address, value = (regs[d] + off) & M64, regs[s] & M64
        if name == "store_release":
            memory.store(address, size, value)
            return following
        old = memory.load(address, size)
        if name == "cmpxchg":
            if old == regs[0] & ((1 << bits) - 1):
                memory.store(address, size, value)
            regs[0] = old
        elif name == "xchg":
            memory.store(address, size, value)
            regs[s] = old
        else:
            memory.store(address, size, alu.alu(name.removeprefix("fetch_"), old, value, bits))
            if name.startswith("fetch_"):
                regs[s] = old
        return following

    return step


def _load_immediate(machine: "Machine", program: Program, pc: int, insn: Insn) -> Step:
    if insn.code != isa.LD_IMM64:
        if insn.code:
            return _unsupported(f"legacy packet load, opcode 0x{insn.code:02x}")
        return _bad(pc, insn)  # second half of LD_IMM64, or nothing
    ref, d, following = program.refs.get(pc), insn.dst, pc + 2
    if ref is not None:
        return _address(machine, program, pc, insn, ref)
    if insn.src:
        return _unsupported(f"LD_IMM64 with source register {insn.src}")
    high = program.insns[pc + 1].imm if pc + 1 < len(program.insns) else 0
    value = (high & M32) << 32 | (insn.imm & M32)

    def step(regs: Registers) -> int:
        regs[d] = value
        return following

    return step


def _address(machine: "Machine", program: Program, pc: int, insn: Insn, ref: Ref) -> Step:
    d, following = insn.dst, pc + 2

    def step(regs: Registers) -> int:
        regs[d] = machine.address_of(program, ref)
        return following

    return step


def _call(machine: "Machine", program: Program, pc: int, insn: Insn) -> Step:
    following = pc + 1
    if insn.src == isa.PSEUDO_CALL:
        callee = program.function_at(following + insn.imm)

        def call(regs: Registers) -> int:
            regs[0] = machine.call(program, callee, regs[1:6], pc)
            regs[1:6] = _NOTHING
            return following

        return call
    ref = program.refs.get(pc)
    if insn.src == isa.PSEUDO_KFUNC_CALL and ref is not None and ref.kind is RefKind.KFUNC:
        return _outside(machine, pc, machine.kfunc(ref), following)
    if insn.src == isa.HELPER_CALL:
        return _outside(machine, pc, machine.helper(insn.imm), following)
    return _bad(pc, insn)


_NOTHING = [None] * 5


def _outside(
    machine: "Machine", pc: int, function: Callable[[Registers], int | None], following: int
) -> Step:
    """A call of a helper or kfunc: `function` takes the five arguments, checked."""

    def call(regs: Registers) -> int:
        machine.pc = pc
        regs[0] = function(regs[1:6])
        regs[1:6] = _NOTHING
        return following

    return call


def _unsupported(what: str) -> Step:
    def step(_regs: Registers) -> int:
        raise Unsupported(what)

    return step


_MAKERS: dict[Class, Callable[["Machine", Program, int, Insn], Step]] = {
    Class.LD: _load_immediate,
    Class.LDX: _load,
    Class.ST: _store_constant,
    Class.STX: _store,
    Class.ALU: _alu,
    Class.ALU64: _alu,
    Class.JMP: _jump,
    Class.JMP32: _jump,
}
