# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs made by chance, for comparing engines: structured, and on request with one mistake.

Every decision is a number from `choose(n)` (0 <= number < n): hypothesis shrinks it, or a seeded
random.Random repeats it. A program has a main function, subprograms that only call later ones, a
callback for bpf_loop and sometimes an exception callback; they compute, spill and fill, branch,
loop, look into maps, call helpers and throw. `machine()` makes a machine that has one loaded.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from harness.bpf.btf import parse
from harness.bpf.btfext import Ext
from harness.bpf.elf import DataSection, Object
from harness.bpf.isa import Insn
from harness.bpf.link import LinkedFunction, Program, Ref, RefKind
from harness.bpf.mapdef import MapDef, MapType
from harness.sim.context import Context
from harness.sim.machine import Machine
from harness.sim.semantics import PROFILES
from harness.sim.trace import Trace

Choose = Callable[[int], int]

MAPS = (
    MapDef("hash", MapType.HASH, 4, 16, 4, offset=0),
    MapDef("array", MapType.ARRAY, 4, 16, 4, offset=32),
)
# an empty BTF section: header, and one empty string
_NO_TYPES = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0"
CONTEXT_BYTES = 64
BUDGET = 4_000
_CONSTANTS = (0, 1, 2, 7, 8, 31, 32, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x7FFF_FFFF, -1, -2, -128,
              -0x8000_0000)  # fmt: skip
_ALU = (0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xA0, 0xB0, 0xC0)
_JUMPS = (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0)
_SIZES = ((0x18, 8), (0x00, 4), (0x08, 2), (0x10, 1))
_ATOMICS = (0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1)
_SLOTS = 6  # spill slots of 8 bytes: r10-8 to r10-48
_KEY, _VALUE, _COUNTER = -56, -80, -88


@dataclass(slots=True)
class _Body:
    """One function while it is being written; jumps are relative, so that it can go anywhere."""

    insns: list[Insn] = field(default_factory=list)
    # index in `insns` -> what it refers to, or the number of the function that it calls
    refs: dict[int, Ref] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)
    # registers and slots that hold a number
    live: set[int] = field(default_factory=set)
    slots: set[int] = field(default_factory=set)
    loops: int = 0


class Generator:
    """Writes one program."""

    def __init__(self, choose: Choose, *, faulty: bool) -> None:
        self._choose = choose
        self._faulty = faulty
        self._functions = 2 + choose(3)
        self._last = self._functions - 1
        self._body = _Body()
        self._number = 0

    def program(self) -> Program:
        """Main, subprograms, then the callback of bpf_loop, which is also the one of a throw."""
        bodies = []
        for number in range(self._functions):
            self._number, self._body = number, _Body()
            self._function()
            bodies.append(self._body)
        return self._link(bodies)

    def _link(self, bodies: list[_Body]) -> Program:
        starts, insns, functions, refs = [], [], [], {}
        for number, body in enumerate(bodies):
            starts.append(len(insns))
            refs |= {len(insns) + at: ref for at, ref in body.refs.items()}
            insns += body.insns
            called = number not in (0, self._last)
            linkage = "global" if number == 0 or (called and self._choose(4) == 0) else "static"
            name = "main" if number == 0 else f"f{number}"
            functions.append(LinkedFunction(name, starts[-1], len(insns), linkage))
        for number, body in enumerate(bodies):
            for at, callee in body.calls.items():
                pc = starts[number] + at
                insns[pc] = Insn(0x85, 0, 1, 0, starts[callee] - pc - 1)
        for pc, ref in refs.items():
            if ref.kind is RefKind.FUNCTION:
                refs[pc] = replace(ref, offset=starts[self._last])
        callback = self._last if self._choose(2) else None
        return Program("main", "syscall", tuple(insns), tuple(functions), refs, {}, callback)

    # ---- pieces --------------------------------------------------------------------------------

    def _emit(self, code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> int:
        self._body.insns.append(Insn(code, dst, src, off, imm))
        return len(self._body.insns) - 1

    def _constant(self) -> int:
        return _CONSTANTS[self._choose(len(_CONSTANTS))]

    def _register(self) -> int:
        live = sorted(self._body.live)
        return live[self._choose(len(live))]

    def _set(self, register: int, number: int) -> None:
        self._emit(0xB7, register, 0, 0, number)
        self._body.live.add(register)

    def _called(self) -> None:
        self._body.live -= set(range(1, 6))
        self._body.live.add(0)

    def _function(self) -> None:
        self._body.live |= {1} if self._number == 0 else {1, 2}
        for register in (6, 7):
            if self._choose(2):
                self._emit(0xBF, register, 1)
                self._body.live.add(register)
            else:
                self._set(register, self._constant())
        self._set(0, self._constant())
        self._statements(2 + self._choose(5), 0)
        if 0 not in self._body.live:
            self._set(0, 1)
        self._emit(0x95)

    def _statements(self, count: int, depth: int) -> None:
        for _ in range(count):
            self._statement(depth)

    def _statement(self, depth: int) -> None:
        simple = (self._alu, self._alu, self._alu, self._mov, self._spill, self._fill, self._helper,
                  self._global, self._context, self._swap, self._atomic, self._leak)  # fmt: skip
        nested = (self._if, self._if, self._loop, self._lookup, self._update, self._call,
                  self._throw, self._for)  # fmt: skip
        if self._faulty and self._choose(12) == 0:
            self._mistake()
        elif depth < 3 and self._choose(3) == 0:
            nested[self._choose(len(nested))](depth)
        else:
            simple[self._choose(len(simple))]()

    def _alu(self) -> None:
        operation, wide = _ALU[self._choose(len(_ALU))], self._choose(2)
        code = operation | (7 if wide else 4)
        off = 1 if operation in (0x30, 0x90) and self._choose(2) else 0
        dst = self._register()
        if self._choose(2):
            self._emit(code | 8, dst, self._register(), off)
        else:
            constant = self._constant()
            bits = 64 if wide else 32
            if operation in (0x60, 0x70, 0xC0):
                constant %= bits
            if operation in (0x30, 0x90) and constant == 0:
                constant = 3
            self._emit(code, dst, 0, off, constant)

    def _mov(self) -> None:
        dst, wide = self._choose(10), self._choose(2)
        widths = (0, 8, 16, 32) if wide else (0, 8, 16)
        self._emit(0xBF if wide else 0xBC, dst, self._register(), widths[self._choose(len(widths))])
        self._body.live.add(dst)

    def _swap(self) -> None:
        if self._choose(3) == 0:
            self._emit(0x87 if self._choose(2) else 0x84, self._register())
        else:
            code = (0xD4, 0xDC, 0xD7)[self._choose(3)]
            self._emit(code, self._register(), 0, 0, (16, 32, 64)[self._choose(3)])

    def _spill(self) -> None:
        slot = 1 + self._choose(_SLOTS)
        if self._choose(2):
            self._emit(0x7B, 10, self._register(), -8 * slot)
        else:
            self._emit(0x7A, 10, 0, -8 * slot, self._constant())
        self._body.slots.add(slot)

    def _fill(self) -> None:
        if not self._body.slots:
            return
        slots = sorted(self._body.slots)
        slot = slots[self._choose(len(slots))]
        code, size = _SIZES[self._choose(4) if self._choose(3) == 0 else 0]
        inside = self._choose(8 // size) * size
        mode = 0x81 if size < 8 and self._choose(3) == 0 else 0x61
        dst = self._choose(10)
        self._emit(mode | code, dst, 10, -8 * slot + inside)
        self._body.live.add(dst)

    def _helper(self) -> None:
        self._emit(0x85, 0, 0, 0, (5, 7, 8)[self._choose(3)])
        self._called()

    def _global(self) -> None:
        pc = self._emit(0x18, 1, 2)
        self._emit(0)
        self._body.refs[pc] = Ref(RefKind.GLOBAL, ".data", 8 * self._choose(4))
        code, size = _SIZES[self._choose(4)]
        if self._choose(2):
            self._emit(0x63 | code, 1, self._register_but(1), self._choose(8))
        else:
            self._emit(0x61 | code, 2, 1, self._choose(8))
            self._body.live.add(2)
        self._body.live.discard(1)
        self._set(1, size)

    def _register_but(self, other: int) -> int:
        live = sorted(self._body.live - {other})
        return live[self._choose(len(live))] if live else 10

    def _context(self) -> None:
        """A field of the context, while R1 still has it."""
        if self._number == 0 and len(self._body.insns) < 6 and 1 in self._body.live:
            self._emit(0x61, 8, 1, 4 * self._choose(8))
            self._body.live.add(8)

    def _atomic(self) -> None:
        if not self._body.slots:
            return
        slots = sorted(self._body.slots)
        slot = slots[self._choose(len(slots))]
        operation = _ATOMICS[self._choose(len(_ATOMICS))]
        self._body.live.add(0) if 0 in self._body.live else self._set(0, 5)
        code = 0xDB if self._choose(2) else 0xC3
        self._emit(code, 10, self._register(), -8 * slot, operation)

    def _leak(self) -> None:
        """The value of a pointer, which must be the same everywhere."""
        register = 6 + self._choose(4)
        self._emit(0xBF, register, 10)
        self._emit(0x07, register, 0, 0, -8 * self._choose(4))
        self._body.live.add(register)

    # ---- pieces with others in them ------------------------------------------------------------

    def _branch(self, condition: int | None = None) -> int:
        """A jump forward whose distance is filled in later."""
        code = (_JUMPS[self._choose(len(_JUMPS))]) | (5 if self._choose(2) else 6)
        dst = self._register() if condition is None else condition
        if self._choose(2):
            return self._emit(code | 8, dst, self._register())
        return self._emit(code, dst, 0, 0, self._constant())

    def _land(self, at: int) -> None:
        insn = self._body.insns[at]
        distance = len(self._body.insns) - at - 1
        self._body.insns[at] = Insn(insn.code, insn.dst, insn.src, distance, insn.imm)

    def _if(self, depth: int) -> None:
        at = self._branch()
        body, before = self._body, (set(self._body.live), set(self._body.slots))
        self._statements(1 + self._choose(2), depth + 1)
        first = set(body.live), set(body.slots)
        body.live, body.slots = set(before[0]), set(before[1])
        if self._choose(2):
            skip = self._emit(0x05)
            self._land(at)
            self._statements(1 + self._choose(2), depth + 1)
            self._land(skip)
        else:
            self._land(at)
        body.live &= first[0]
        body.slots &= first[1]

    def _loop(self, depth: int) -> None:
        """Bounded by a counter in a slot that nothing else writes."""
        body, counter = self._body, _COUNTER - 8 * self._body.loops
        body.loops += 1
        self._emit(0x7A, 10, 0, counter, 1 + self._choose(20))
        start, before = len(body.insns), (set(body.live), set(body.slots))
        self._statements(1 + self._choose(3), depth + 1)
        body.live, body.slots = body.live & before[0], body.slots & before[1]
        for register in before[0] - body.live:
            self._set(register, 3)
        register = 1 + self._choose(5)
        self._emit(0x79, register, 10, counter)
        self._emit(0x07, register, 0, 0, -1)
        self._emit(0x7B, 10, register, counter)
        self._emit(0x55, register, 0, start - len(body.insns) - 1, 0)
        body.live.add(register)

    def _map(self, register: int) -> None:
        pc = self._emit(0x18, register, 1)
        self._emit(0)
        self._body.refs[pc] = Ref(RefKind.MAP, MAPS[self._choose(2)].name)

    def _key(self) -> None:
        self._emit(0x62, 10, 0, _KEY, self._choose(6))
        self._emit(0xBF, 2, 10)
        self._emit(0x07, 2, 0, 0, _KEY)

    def _lookup(self, depth: int) -> None:
        self._key()
        self._map(1)
        self._emit(0x85, 0, 0, 0, 1)
        self._called()
        at = self._emit(0x15, 0, 0, 0, 0)
        body = self._body
        before = set(body.live), set(body.slots)
        code, size = _SIZES[self._choose(4)]
        source = self._register_but(0)
        self._emit(0x63 | code, 0, source, self._choose(16 // size) * size)
        if self._choose(2) and source != 10:
            self._emit(0xDB, 0, source, 8 * self._choose(2), _ATOMICS[self._choose(9)])
        self._emit(0x61 | code, 6, 0, self._choose(16 // size) * size)
        self._statements(self._choose(2), depth + 1)
        self._land(at)
        body.live, body.slots = body.live & before[0], body.slots & before[1]

    def _update(self, _depth: int) -> None:
        for part in range(2):
            self._emit(0x7B, 10, self._register_but(10), _VALUE + 8 * part)
        self._key()
        self._map(1)
        self._emit(0xBF, 3, 10)
        self._emit(0x07, 3, 0, 0, _VALUE)
        self._emit(0xB7, 4, 0, 0, self._choose(3))
        self._emit(0x85, 0, 0, 0, 2 + (self._choose(5) == 0))
        self._called()

    def _call(self, _depth: int) -> None:
        later = range(self._number + 1, self._last)
        if not later:
            return
        for register in (1, 2):
            if register not in self._body.live:
                self._set(register, self._constant())
        at = self._emit(0x85, 0, 1)
        self._body.calls[at] = later[self._choose(len(later))]
        self._called()

    def _for(self, _depth: int) -> None:
        """bpf_loop() with the last function; a callback calls no other one."""
        if self._number == self._last:
            return
        self._emit(0xB7, 1, 0, 0, self._choose(6))
        pc = self._emit(0x18, 2, 4)
        self._emit(0)
        self._body.refs[pc] = Ref(RefKind.FUNCTION, f"f{self._last}")
        self._emit(0xB7, 3, 0, 0, self._constant())
        self._emit(0xB7, 4, 0, 0, 0)
        self._emit(0x85, 0, 0, 0, 181)
        self._called()

    def _throw(self, _depth: int) -> None:
        if self._number == self._last:
            return
        at = self._branch()
        self._emit(0xBF, 1, self._register())
        pc = self._emit(0x85, 0, 2)
        self._body.refs[pc] = Ref(RefKind.KFUNC, "bpf_throw")
        self._land(at)
        self._body.live -= set(range(6))
        self._set(0, 0)

    # ---- mistakes ------------------------------------------------------------------------------

    def _mistake(self) -> None:
        """Something that no verifier accepts, or that is not modelled."""
        kinds: tuple[tuple[int, int, int, int, int], ...] = (
            (0x79, 6, 10, -600, 0),  # below the stack
            (0x79, 6, 10, -4, 0),  # over its end
            (0x7B, 10, 6, -516, 0),
            (0x71, 6, 10, -300, 0),  # never written
            (0xBF, 6, self._choose(10), 0, 0),  # maybe empty
            (0x0F, self._choose(10), 7, 0, 0),
            (0x79, 6, 6, self._choose(8), 0),  # maybe no pointer
            (0x7B, 7, 6, 0, 0),
            (0x85, 0, 0, 0, 9999),  # no such helper
            (0x85, 0, 0, 0, 1),  # arguments maybe empty or wrong
            (0x8D, 0, 0, 0, 0),  # no such instruction
            (0xF7, 6, 0, 0, 0),
            (0x1D, 9, 8, 0, 0),  # a jump that asks registers which may be empty
            (0xDB, 10, 6, -44, 0x01),  # not aligned
        )
        code, dst, src, off, imm = kinds[self._choose(len(kinds))]
        self._emit(code, dst, src, off, imm)


def generate(choose: Choose, *, faulty: bool = False) -> Program:
    """A program; with `faulty` perhaps one with mistakes."""
    return Generator(choose, faulty=faulty).program()


def machine(program: Program, profile: str = "7.3", budget: int = BUDGET) -> Machine:
    """A machine with this program as "main", two maps and a section of globals."""
    sections = (DataSection(".data", bytes(range(64))),)
    obj = Object("generated", (), (), MAPS, sections, (), "GPL", parse(_NO_TYPES), Ext())
    made = Machine(obj, PROFILES[profile], Trace(), budget)
    made.program_type = "syscall"
    made.insert(program)
    return made


def run(made: Machine, times: int = 3) -> list[int]:
    """Some runs of "main", each with a context of its own."""
    values = []
    for number in range(times):
        data = bytes((number * 37 + i * 11) & 0xFF for i in range(CONTEXT_BYTES))
        region = made.memory.region("ctx", bytearray(data))
        values.append(made.run("main", Context(region.address)))
    return values
