# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Random programs of raw instructions, and what became of one on one engine.

The programs are no valid BPF: registers that hold nothing, addresses that are none, jumps into
the middle of LD_IMM64, opcodes that do not exist.
"""

import types
from dataclasses import dataclass

from harness.bpf import isa, opcodes
from harness.bpf.isa import Insn
from harness.bpf.link import LinkedFunction, Program, Ref, RefKind
from harness.sim import semantics
from harness.sim.context import Context
from harness.sim.machine import Machine
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import Trace

MEMORY_BYTES = 96
BUDGET = 3000
# ALU with all operations and widths, loads, stores, atomics, jumps
_ALU = [op | cls | src for op in isa.ALU_OPS for cls in (4, 7) for src in (0, 8)]
_JUMPS = [op | cls | src for op in isa.JUMP_OPS for cls in (5, 6) for src in (0, 8)]
_SIZES = (0x00, 0x08, 0x10, 0x18)
_ATOMICS = [*isa.ATOMIC_OPS, 0x02]
_IMMEDIATES = (0, 1, -1, 2, 8, 16, 31, 32, 63, 64, 255, 0x7FFFFFFF, -0x80000000)


@dataclass(frozen=True)
class Outcome:
    """Everything that engines must agree on."""

    value: int | None
    error: str
    budget: int
    memory: bytes
    cookies: tuple[int, ...]
    clock_ns: int


def _simple(random):
    """One instruction without a jump, that is one."""
    while opcodes.find(made := _anything(random)) is None:
        pass
    return made


def _anything(random):
    """Something like an instruction without a jump."""
    r = random.randrange
    kind = r(12)
    some = random.choice([0, 1, 2, 3, 6, 7, 10] if r(30) else [0, 4, 5, 8, 9, 10])
    other = random.choice([0, 1, 2, 3, 6, 7])
    if kind < 5:
        code = random.choice(_ALU)
        off = 0 if r(8) else random.choice([1, 8, 16, 32, 5])
        imm = random.choice(_IMMEDIATES) if not code & 8 else 0
        imm = random.choice([16, 32, 64]) if code & 0xF0 == 0xD0 and r(9) else imm
        dst = other if r(40) else some
        return Insn(code, dst, some if code & 8 else 0, off, imm)
    place = random.choice([-8, -16, -24, -4, -512] if r(9) else [0, 8, -520, -510, 3])
    base, off = (10, place) if r(3) else (random.choice([1, 6, 7]), r(MEMORY_BYTES + 8) - 2)
    size = random.choice(_SIZES)
    if kind < 7:
        return Insn(random.choice([0x61, 0x61, 0x81]) & 0xE7 | size, other, base, off, 0)
    if kind < 9:
        return Insn(0x63 & 0xE7 | size, base, other, off, 0)
    if kind == 9:
        return Insn(0x62 & 0xE7 | size, base, 0, off, random.choice(_IMMEDIATES))
    if kind == 10:
        return Insn(0xC3 & 0xE7 | size, base, other, off, random.choice(_ATOMICS))
    return Insn(0xB7, other, 0, 0, random.choice(_IMMEDIATES))


def _function(random, start, starts, length):
    """Instructions of one function; calls go to the functions in `starts`."""
    insns, refs = [Insn(0xBF, 6, 1, 0, 0), Insn(0xBF, 7, 10, 0, 0), Insn(0xB7, 0, 0, 0, 1)], {}
    insns[1:1] = [Insn(0xBF, r, 1, 0, 0) for r in (2, 3) if random.randrange(4)]
    insns += [Insn(0x7B, 10, 6, -8, 0)] * random.randrange(2)
    while len(insns) < length:
        kind, pc = random.randrange(24), start + len(insns)
        if kind < 4:
            away = random.choice([1, 2, 3, 5, -2, -4, -7])
            code = random.choice([*_JUMPS, 0x05, 0xE5])
            imm = 0 if code & 8 or code in (0x05, 0xE5) else random.choice(_IMMEDIATES)
            src = random.choice([0, 1, 6]) if code & 8 and code != 0x05 else 0
            insns.append(Insn(code, 0 if code in (5, 0xE5) else random.choice([0, 1, 6, 7]), src,
                              away, imm))  # fmt: skip
        elif kind == 4:
            number = random.getrandbits(64)
            low = (number & 0xFFFFFFFF) - ((number & 0x80000000) << 1)
            insns += [Insn(0x18, random.randrange(8), 0, 0, low), Insn(0, 0, 0, 0, number >> 33)]
        elif kind == 5 and starts:
            target = random.choice(starts)
            if random.randrange(3):
                insns.append(Insn(0xBF, 1, random.choice([6, 7]), 0, 0))
            insns.append(Insn(0x85, 0, 1, 0, target))  # made relative below
        elif kind == 6:
            insns.append(Insn(0x85, 0, 0, 0, random.choice([5, 7, 8, 1, 12345])))
        elif kind == 7 and not random.randrange(3):
            refs[pc] = Ref(RefKind.KFUNC, "bpf_throw")
            insns.append(Insn(0x85, 0, 2, 0, 0))
        elif kind == 8 and not random.randrange(8):
            insns.append(Insn(random.randrange(256), random.randrange(11), random.randrange(11),
                              random.choice([0, 1, -1]), 0))  # fmt: skip
        elif kind == 9:
            insns.append(Insn(0x95, 0, 0, 0, 0))
        else:
            insns.append(_simple(random))
    insns.append(Insn(0x95, 0, 0, 0, 0))
    return insns, refs


def program(random, functions=3, length=24):
    """A program of some functions that call each other."""
    lengths = [random.randrange(8, length) for _ in range(random.randrange(1, functions + 1))]
    made, refs, linked = [], {}, []
    names = [f"f{i}" for i in range(len(lengths))]
    for name, size in zip(names, lengths, strict=True):
        start = len(made)
        body, more = _function(random, start, names, size)
        made += body
        refs |= more
        linkage = "global" if not linked or not random.randrange(4) else "static"
        linked.append(LinkedFunction(name, start, len(made), linkage))
    by_name = {f.name: f.start for f in linked}
    for pc, insn in enumerate(made):
        if insn.code == 0x85 and insn.src == 1:
            made[pc] = Insn(0x85, 0, 1, 0, by_name.get(insn.imm, 0) - pc - 1)
    for pc, insn in enumerate(made):  # as a rule no program is refused before it runs
        if insn.code and opcodes.find(insn) is None and random.randrange(300):
            made[pc] = Insn(0xB7, 1, 0, 0, 1)
    for function in linked:  # jumps stay inside
        for pc in range(function.start, function.end):
            insn = made[pc]
            if insn.code & 7 in (5, 6) and insn.code not in (0x85, 0x95):
                away = insn.imm if insn.code == 6 else insn.off
                if not function.start <= pc + 1 + away < function.end:
                    made[pc] = Insn(insn.code, insn.dst, insn.src, 0, 0)
    handler = len(linked) - 1 if len(linked) > 1 and random.randrange(2) else None
    return Program("p", "xdp", tuple(made), tuple(linked), refs, {}, handler)


def machine_for(made, engine, budget=BUDGET):
    """A machine that knows this one program."""
    obj = types.SimpleNamespace(maps=(), sections=(), path="x", btf=None, types=None)
    machine = Machine(obj, semantics.profile("7.3"), Trace(), budget)
    machine.engine = engine
    machine._programs["p"] = made
    return machine


def run(made, engine, budget=BUDGET, runs=1):
    """Run a program some times in one machine; what became of it last."""
    machine = machine_for(made, engine, budget)
    region = machine.memory.region("memory", bytearray(range(MEMORY_BYTES)))
    value, error = None, ""
    for _ in range(runs):
        value, error = None, ""
        try:
            value = machine.run("p", Context(region.address))
        except (Fault, Unsupported) as raised:
            error = f"{type(raised).__name__}: {raised}"
    return Outcome(
        value, error, machine.budget, bytes(region.data), tuple(machine.cookies), machine.clock_ns
    )
