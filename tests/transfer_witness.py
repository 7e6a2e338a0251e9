# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Does the number domain conclude what a kernel printed, bit for bit?

For each instruction of a log: the domain's result from the state before it, against what the log
says that the instruction made of the register. Copies of registers are left out: what a kernel
learns of one it tells the others, in silence.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

from harness.bpf.isa import ALU_OPS, JUMP_OPS, Class, Insn
from harness.bpf.program import LinkedFunction, Program
from harness.verify import scalar
from harness.verify.branches import REVERSED
from harness.verify.ranges import Bounds
from harness.verify.tnum import Tnum


@dataclass
class Comparison:
    """How many results were the same, by operation, and those that were not."""

    same: Counter = field(default_factory=Counter)
    other: list[str] = field(default_factory=list)

    def add(self, comparison):
        self.same += comparison.same
        self.other += comparison.other


def compare(log, program, series):
    """All steps of a log with numbers in them."""
    domain, found = Numbers(scalar.domain(series)), Comparison()
    for pc, before, changes in log.steps:
        domain.carry(before, changes)
        insn = program.insns[pc] if pc < len(program.insns) else None
        after = changes.get(f"R{insn.dst}") if insn is not None else None
        if after is None or after.kind != "scalar" or _is_copy(after):
            continue
        what, made = _result(domain, insn, before) or ("", None)
        if not what:
            continue
        if _numbers(made) == _printed(after):
            found.same[what] += 1
            domain.remember(after, made)
        else:
            found.other.append(f"{program.name} {pc}: {what}: {made}, printed: {after}")
    return found


class Numbers:
    """The domain, and which Scalar stands behind what was printed: an arc shows its views only."""

    def __init__(self, domain):
        self.domain = domain
        self._behind = {}

    def __getattr__(self, name):
        return getattr(self.domain, name)

    def remember(self, known, number):
        self._behind[id(known)] = number

    def carry(self, before, changes):
        """Registers are printed again where they are read."""
        for name, known in changes.items():
            number = self._behind.get(id(before.get(name)))
            if number is not None and before[name] == known:
                self.remember(known, number)

    def behind(self, known):
        """The Scalar that was found to be printed so, or None."""
        return self._behind.get(id(known))


def _is_copy(known):
    return "id" in known.fields


def _number(domain, known):
    """A Scalar of what was printed, None for a pointer. Of an arc the views were printed."""
    if known is None or known.kind != "scalar" or _is_copy(known):
        return None
    if domain.behind(known) is not None:
        return domain.behind(known)
    bits = Tnum(known.value, known.mask)
    wide = known.umin, known.umax, known.smin, known.smax
    low = known.umin32, known.umax32, known.smin32, known.smax32
    if not domain.precision.arcs:
        return scalar.Scalar(bits, Bounds(*wide), Bounds(*low))
    made = scalar.Scalar(bits, _arc(domain.wide, *wide), _arc(domain.narrow, *low))
    # else there is an arc over both ends, of which nothing is printed
    return made if _numbers(domain.sync(*made)) == _numbers(made) else None


def _arc(kind, umin, umax, smin, smax):
    if (umin, umax) != kind.full[:2]:
        return kind.unsigned(umin, umax)
    return kind.signed(smin, smax)


def _numbers(made):
    return (*made.tnum, *made.wide[:4], *made.narrow[:4])


def _printed(known):
    return (
        known.value, known.mask, known.umin, known.umax, known.smin, known.smax, known.umin32,
        known.umax32, known.smin32, known.smax32,
    )  # fmt: skip


def _result(domain, insn, before):
    """(operation, what the domain makes of the destination), None where that is no question."""
    if insn.cls in (Class.ALU, Class.ALU64):
        return _alu(domain, insn, before)
    if insn.cls in (Class.JMP, Class.JMP32) and insn.op in JUMP_OPS:
        return _jump(domain, insn, before)
    return None


def _operand(domain, insn, before):
    if insn.uses_register:
        return _number(domain, before.get(f"R{insn.src}"))
    whole = insn.cls in (Class.ALU64, Class.JMP)
    return domain.known(insn.imm if whole else insn.imm & 0xFFFFFFFF)


def _alu(domain, insn, before):
    bits = 64 if insn.cls is Class.ALU64 else 32
    op = ALU_OPS[insn.op]
    if op == "mov":
        source = _number(domain, before.get(f"R{insn.src}"))
        if not insn.uses_register or source is None or insn.off == 1:
            return None
        if insn.off:
            return f"movsx{insn.off} to {bits}", domain.extend(source, insn.off, bits)
        return "mov32", domain.low_half(source) if bits == 32 else source
    a = _number(domain, before.get(f"R{insn.dst}"))
    if a is None:
        return None
    if op == "end":
        reverse = bits == 64 or insn.uses_register
        return f"end{insn.imm}", domain.swap(a, insn.imm, reverse=reverse)
    op = f"s{op}" if op in ("div", "mod") and insn.off == 1 else op
    b = domain.known(0) if op == "neg" else _operand(domain, insn, before)
    if b is None:
        return None
    halves = domain.fork(op, a, b)
    return f"{op}{bits}", domain.alu(op, halves[0] if halves else a, b, bits)


def _jump(domain, insn, before):
    """What is known where the jump is not taken, unless it always is."""
    bits = 64 if insn.cls is Class.JMP else 32
    op, same = JUMP_OPS[insn.op], insn.uses_register and insn.src == insn.dst
    a, b = _number(domain, before.get(f"R{insn.dst}")), _operand(domain, insn, before)
    if a is None or b is None:
        return None
    if domain.decide(op, a, b, bits, same=same) is not None:
        return f"j{op}{bits} decided", a
    if same:
        return f"j{op}{bits} itself", domain.learn_itself(REVERSED[op], a, bits)
    return f"j{op}{bits}", domain.learn(REVERSED[op], a, b, bits)[0]


# random programs ---------------------------------------------------------------------------

_ALU = {name: code for code, name in ALU_OPS.items()}
_JUMPS = {name: code for code, name in JUMP_OPS.items()}
_NUMBERS = (
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 100, 127, 128, 255, 256, 1000, 0x7FFF, 0xFFFF,
    0x10000, 0x7FFFFFFF, -1, -2, -8, -100, -128, -32768, -0x80000000, 0x0F0F0F0F, 0x55555555,
)  # fmt: skip
# fields of __sk_buff that can be read: (offset, opcode)
_LOADS = ((0, 0x61), (8, 0x61), (68, 0x61), (152, 0x79), (0, 0x69), (8, 0x71), (2, 0x71))
_OPERATIONS = (
    "add", "sub", "mul", "or", "and", "xor", "lsh", "rsh", "arsh", "add", "sub", "and", "div",
    "mod", "neg", "sdiv", "smod", "sign",
)  # fmt: skip
_INSNS = 40


def random_program(seed):
    """A tc program that loads, computes and compares; a jump leads to its end."""
    dice = random.Random(seed)
    body = [Insn(0xBF, 6, 1, 0, 0)]
    body += [_load(dice, register) for register in range(6)]
    body += [_any(dice) for _ in range(_INSNS)]
    end = len(body)
    insns = [
        Insn(insn.code, insn.dst, insn.src, end - place - 1, insn.imm)
        if insn.cls in (Class.JMP, Class.JMP32)
        else insn
        for place, insn in enumerate(body)
    ]
    insns += [Insn(0xB7, 0, 0, 0, 0), Insn(0x95, 0, 0, 0, 0)]
    name = f"random{seed}"
    return Program(
        name, "tc", tuple(insns), (LinkedFunction(name, 0, len(insns), "global"),), {}, {}
    )


def _load(dice, register):
    offset, code = dice.choice(_LOADS)
    return Insn(code, register, 6, offset, 0)


def _any(dice):
    a, b = dice.randrange(6), dice.randrange(6)
    kind = dice.random()
    if kind < 0.12:
        return _load(dice, a)
    if kind < 0.17:
        return Insn(dice.choice((0xD4, 0xDC, 0xD7)), a, 0, 0, dice.choice((16, 32, 64)))
    if kind < 0.23:
        code = dice.choice((0xBC, 0xBF))
        return Insn(code, a, b, dice.choice((8, 16) if code == 0xBC else (8, 16, 32)), 0)
    number = dice.choice(_NUMBERS) if dice.random() < 0.7 else dice.randrange(-300, 300)
    if kind < 0.57:
        return _compute(dice, a, b, number)
    code = dice.choice((5, 6)) | dice.choice(list(_JUMPS.values()))
    return Insn(code | 8, a, b, 0, 0) if dice.random() < 0.4 else Insn(code, a, 0, 0, number)


def _compute(dice, a, b, number):
    cls, name = dice.choice((4, 7)), dice.choice(_OPERATIONS)
    if name == "sign":
        # 0 or -1: what some kernels follow as two paths
        return Insn(cls | _ALU["arsh"], a, 0, 0, 31 if cls == 4 else 63)
    if name == "neg":
        return Insn(cls | _ALU["neg"], a, 0, 0, 0)
    signed = name in ("sdiv", "smod")
    name = name[1:] if signed else name
    if name in ("lsh", "rsh", "arsh"):
        number = dice.randrange(32 if cls == 4 else 64)
    elif name in ("div", "mod"):
        number = number or 3
    if dice.random() < 0.45:
        return Insn(cls | _ALU[name] | 8, a, b, int(signed), 0)
    return Insn(cls | _ALU[name], a, 0, int(signed), number)
