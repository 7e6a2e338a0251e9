# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What each instruction does: the closures of the reference interpreter, one per instruction.

Owns the semantics; values and conditions of arithmetic are harness.sim.alu's. A register that
holds nothing is None: every operation on it raises TypeError, which the interpreter turns into a
fault with the register's name, so that no instruction pays for the check.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.bpf import isa, opcodes
from harness.bpf.isa import Class, Insn
from harness.bpf.program import Program, Ref, RefKind
from harness.sim import alu, skbload
from harness.sim.alu import M32, M64, signed
from harness.sim.engines import Registers, Step, expressions, reference_stack
from harness.sim.engines.blocks import is_subprogram_call
from harness.sim.engines.reference_alu import arenas, arithmetic, bad, defined
from harness.sim.memory import FORMATS, NOWHERE, WRITTEN
from harness.sim.signals import Unsupported
from harness.sim.structure import jump_target

if TYPE_CHECKING:
    from harness.sim.machine import Machine

# the last instruction of a block: where to go on, or EXIT
Leave = Callable[[Registers], int]
EXIT = -1
_FETCHING = frozenset(n for n in isa.ATOMIC_OPS.values() if "fetch" in n or "xchg" in n)
_NOTHING = [None] * 5


def make_step(machine: "Machine", program: Program, pc: int) -> Step:
    """Closure for an instruction that does not end a block."""
    insn = program.insns[pc]
    if opcodes.PARAMS in (insn.dst, insn.src):
        return _unsupported("arguments beyond the fifth (r11)")
    return _MAKERS[insn.cls](machine, program, pc, insn)


def _unsupported(what: str) -> Step:
    def step(_regs: Registers) -> None:
        raise Unsupported(what)

    return step


# ---- memory -------------------------------------------------------------------------------------


def _load(machine: "Machine", _program: Program, pc: int, insn: Insn) -> Step:
    d, s, off, size = insn.dst, insn.src, insn.off, insn.size_bytes
    load, regions = machine.memory.loader(size), machine.memory.regions
    get, written, region = FORMATS[size].unpack_from, WRITTEN[size], NOWHERE
    slot = reference_stack.slot(s, off, size)
    if insn.mode == "mem" and slot is not None:
        return reference_stack.load(machine, insn, slot)
    if insn.mode == "mem":

        def plain(regs: Registers) -> None:
            # mostly the region of last time; `load` does what is left, or says what is wrong
            nonlocal region
            offset = regs[s] + off - region.address
            if (
                region.low <= offset <= region.high - size
                and region.load is None
                and (region.shadow is None or get(region.shadow, offset)[0] == written)
            ):
                regs[d] = get(region.data, offset)[0]
            else:
                address = (regs[s] + off) & M64
                region = regions.get(address >> 32, NOWHERE)
                regs[d] = load(address)

        return plain
    if insn.mode != "memsx" or size == 8:
        return bad(pc, insn)

    rules = arenas(machine)

    def sign_extended(regs: Registers) -> None:
        if rules is not None:
            rules.check_signed(machine, (regs[s] + off) & M64)
        regs[d] = signed(load((regs[s] + off) & M64), size * 8) & M64

    return sign_extended


def _store_constant(machine: "Machine", _program: Program, pc: int, insn: Insn) -> Step:
    d, off, size = insn.dst, insn.off, insn.size_bytes
    store, value = machine.memory.storer(size), insn.imm & M64
    if insn.mode != "mem":
        return bad(pc, insn)

    def step(regs: Registers) -> None:
        store((regs[d] + off) & M64, value)

    return step


def _store(machine: "Machine", _program: Program, pc: int, insn: Insn) -> Step:
    if insn.mode == "atomic":
        return _atomic(machine, pc, insn)
    d, s, off, size = insn.dst, insn.src, insn.off, insn.size_bytes
    store, regions = machine.memory.storer(size), machine.memory.regions
    put, written, mask = FORMATS[size].pack_into, WRITTEN[size], (1 << size * 8) - 1
    region = NOWHERE
    if insn.mode != "mem":
        return bad(pc, insn)
    slot = reference_stack.slot(d, off, size)
    if slot is not None:
        return reference_stack.store(machine, insn, slot)

    def step(regs: Registers) -> None:
        nonlocal region
        offset = regs[d] + off - region.address
        if region.low <= offset <= region.high - size and region.writable and region.store is None:
            put(region.data, offset, regs[s] & mask)
            if region.shadow is not None:
                put(region.shadow, offset, written)
        else:
            address = (regs[d] + off) & M64
            region = regions.get(address >> 32, NOWHERE)
            store(address, regs[s] & M64)

    return step


def _atomic(machine: "Machine", pc: int, insn: Insn) -> Step:
    name, size = isa.ATOMIC_OPS.get(insn.imm, ""), insn.size_bytes
    moves = name in ("load_acquire", "store_release")
    if not name or (size < 4 and not moves):
        return bad(pc, insn)
    d, s, off = insn.dst, insn.src, insn.off
    memory, bits, rules = machine.memory, size * 8, arenas(machine)
    if name == "load_acquire":

        def acquire(regs: Registers) -> None:
            regs[d] = memory.load((regs[s] + off) & M64, size)

        return acquire

    def step(regs: Registers) -> None:
        address, value = (regs[d] + off) & M64, regs[s] & M64
        if name == "store_release":
            memory.store(address, size, value)
            return
        if rules is not None and name in _FETCHING:
            rules.check_fetch(machine, address, size)
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

    return step


def _load_immediate(machine: "Machine", program: Program, pc: int, insn: Insn) -> Step:
    if insn.code != isa.LD_IMM64:
        if insn.mode in ("abs", "ind") and insn.size_bytes < 8:
            return _load_packet(machine, insn)
        return bad(pc, insn)  # second half of LD_IMM64, or nothing
    ref, d = program.refs.get(pc), insn.dst
    if ref is not None:
        return _address(machine, program, insn, ref)
    if insn.src:
        form = opcodes.find(insn)
        return _unsupported(f"{form.name if form else 'LD_IMM64'} with number {insn.imm}")
    high = program.insns[pc + 1].imm if pc + 1 < len(program.insns) else 0
    value = (high & M32) << 32 | (insn.imm & M32)

    def step(regs: Registers) -> None:
        regs[d] = value

    return step


def _load_packet(machine: "Machine", insn: Insn) -> Step:
    s, indirect = insn.src, insn.mode == "ind"

    def step(regs: Registers) -> None:
        regs[0] = skbload.load(machine, insn, regs[6] & M64, regs[s] & M64 if indirect else 0)
        regs[1:6] = _NOTHING

    return step


def _address(machine: "Machine", program: Program, insn: Insn, ref: Ref) -> Step:
    d = insn.dst

    def step(regs: Registers) -> None:
        regs[d] = machine.address_of(program, ref)

    return step


# ---- jumps and calls ----------------------------------------------------------------------------


def _call_outside(machine: "Machine", program: Program, pc: int, insn: Insn) -> Step:
    """A call of a helper or kfunc, which takes the five arguments and checks them."""
    ref = program.refs.get(pc)
    if insn.code == isa.CALLX and machine.calls_by_register:
        return _call_by_register(machine, pc, insn)
    if insn.code == isa.GOTOX:
        return _unsupported("gotox: jump tables are not modelled")
    if insn.code != isa.CALL:
        return bad(pc, insn)
    if insn.src == isa.HELPER_CALL:
        function = machine.helper(insn.imm)
    elif insn.src == isa.PSEUDO_KFUNC_CALL and ref is not None and ref.kind is RefKind.KFUNC:
        function = machine.kfunc(ref)
    else:
        return bad(pc, insn)

    def call(regs: Registers) -> None:
        machine.pc = pc
        regs[0] = function(regs[1:6])
        regs[1:6] = _NOTHING

    return call


def _call_by_register(machine: "Machine", pc: int, insn: Insn) -> Step:
    """callx: the helper whose number is in the register. bpf_conformance has it, no kernel."""
    d = insn.dst

    def call(regs: Registers) -> None:
        machine.pc = pc
        regs[0] = machine.helper(regs[d] & M32)(regs[1:6])
        regs[1:6] = _NOTHING

    return call


def make_leave(machine: "Machine", program: Program, pc: int) -> Leave | None:
    """Closure for an instruction that ends a block, None for others."""
    insn = program.insns[pc]
    target = jump_target(pc, insn)
    if insn.code == isa.EXIT:
        return goto(EXIT)
    if is_subprogram_call(insn):
        return machine.caller(program, program.function_at(pc + 1 + insn.imm), pc)
    if target is None:
        return None
    if insn.code in (isa.JA, isa.JA32):
        return goto(target)
    if insn.code == isa.MAY_GOTO:  # jumps when 8 Mi rounds are used up: the budget ends before
        return goto(pc + 1)
    name = isa.JUMP_OPS.get(insn.op)
    return bad(pc, insn) if name is None else _branch(name, pc, insn)


def goto(target: int) -> Leave:
    def go(_regs: Registers) -> int:
        return target

    return go


def _branch(name: str, pc: int, insn: Insn) -> Leave:
    bits = 64 if insn.cls is Class.JMP else 32
    table = expressions.JUMP64 if bits == 64 else expressions.JUMP32
    condition = table[name].format(a="regs[d]", b="regs[s]" if insn.uses_register else "c")
    constant = insn.imm & ((1 << bits) - 1)
    return _leave_of(condition)(insn.dst, insn.src, constant, pc + 1 + insn.off, pc + 1)


@functools.cache
def _leave_of(condition: str) -> Callable[[int, int, int, int, int], Leave]:
    """A function of d, s, c and the two places to go on that makes the jump."""
    made: Callable[[int, int, int, int, int], Leave] = defined(f"""
def make(d, s, c, taken, behind):
    def leave(regs):
        return taken if {condition} else behind
    return leave
""")
    return made


_MAKERS: dict[Class, Callable[["Machine", Program, int, Insn], Step]] = {
    Class.LD: _load_immediate,
    Class.LDX: _load,
    Class.ST: _store_constant,
    Class.STX: _store,
    Class.ALU: arithmetic,
    Class.ALU64: arithmetic,
    Class.JMP: _call_outside,
    Class.JMP32: _call_outside,
}
