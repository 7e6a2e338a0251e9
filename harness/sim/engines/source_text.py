# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Python text of one function of a program, for harness.sim.engines.source.

Registers become local variables, blocks the branches of one loop, the stack a buffer at constant
places, or variables where nobody else can see it. Owns the shape of the text; arithmetic is
harness.sim.engines.source_alu's, and what may be left unchecked comes from the analysis.
Nothing in the text says where an instruction is: each line knows its instruction instead.
"""

from dataclasses import dataclass

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.bpf.link import RefKind
from harness.sim.alu import M32, M64
from harness.sim.engines import source_alu
from harness.sim.engines.analysis import Facts, State
from harness.sim.engines.blocks import Block, following
from harness.sim.engines.source_shape import (
    Callee,
    Text,
    Unwritable,
    labels_of,
    slots_of,
    tracked_of,
)
from harness.sim.engines.usage import registers_written
from harness.sim.memory import WRITTEN


@dataclass(slots=True)
class _Place:
    """Where text is being written."""

    level: int
    registers: source_alu.Registers
    # block whose loop this is in, -1 outside of one
    loop: int = -1


class Writer:
    """Writes one function."""

    def __init__(
        self,
        facts: Facts,
        constants: dict[int, int],
        callees: dict[int, Callee],
        *,
        bare: bool,
        prefix: str = "",
    ) -> None:
        """`constants`: addresses by instruction; `callees`: by calling instruction.

        A `bare` function is called without a frame: it has no stack but variables, and 0 in R10,
        which nobody sees. `prefix`: of the names of variables that are its own.
        """
        self._facts = facts
        self._program = facts.program
        self._constants = constants
        self._callees = callees
        self._prefix = prefix
        self.text = Text()
        self._slots = slots_of(facts)
        if bare and self._slots is None:
            raise Unwritable("its stack is not made of variables")
        self._pc = facts.function.start
        self._labels: list[int] = []
        self._tracked = tracked_of(facts)

    # ---- the whole --------------------------------------------------------------------------

    def write(self, name: str) -> Text:
        """Write the function `name`. Raises Unwritable."""
        facts = self._facts
        self._labels = labels_of(facts)
        given = "".join(f"r{r}, " for r in range(1, 6))
        later = ", r0=None, r6=None, r7=None, r8=None, r9=None"
        self._line(0, f"def {name}({given}r10, stack, p=0{later}):")
        self._line(1, "n = m.budget")
        if self._slots is None:
            self._line(1, "s = stack.data; w = stack.shadow")
        else:
            for slot, size in sorted(self._slots.items()):
                self._line(1, f"s{slot} = u{size}(stack.data, {slot})[0] if p else None")
        self.text.labels = {start: number for number, start in enumerate(self._labels)}
        self._line(1, "try:")
        self._dispatch(2, 0, len(self._labels))
        self._line(1, "finally:")
        self._line(2, "if n is not None: m.budget = n")
        return self.text

    def _line(self, level: int, text: str) -> None:
        self.text.lines.append(" " * level + text)
        self.text.pcs.append(self._pc)

    def _dispatch(self, level: int, low: int, high: int) -> None:
        """A loop around all labels, and a tree of questions that finds label p."""
        if len(self._labels) > 1:
            self._line(level, "while True:")
            self._choose(level + 1, low, high)
        else:
            self._section(level, 0)

    def _choose(self, level: int, low: int, high: int) -> None:
        if high - low == 1:
            self._section(level, low)
            return
        middle = (low + high) // 2
        self._line(level, f"if p < {middle}:")
        self._choose(level + 1, low, middle)
        self._line(level, "else:")
        self._choose(level + 1, middle, high)

    def _section(self, level: int, label: int) -> None:
        """A label, and all that is reached from it without another one."""
        start = self._labels[label]
        loops = self._jumps_back(start)
        if loops:
            self._line(level, "while True:")
        place = _Place(level + loops, self._fresh(level + loops), start if loops else -1)
        self._block(place, self._facts.blocks[start])

    def _fresh(self, level: int) -> source_alu.Registers:
        names = [f"r{number}" for number in range(11)]
        return source_alu.Registers(lambda text: self._line(level, text), names)

    def _jumps_back(self, start: int) -> bool:
        """Whether a section comes back to its own label."""
        seen, waiting = set(), [start]
        while waiting:
            at = waiting.pop()
            for after in self._facts.blocks[at].successors:
                if after == start:
                    return True
                if after not in self._labels and after not in seen:
                    seen.add(after)
                    waiting.append(after)
        return False

    # ---- blocks -----------------------------------------------------------------------------

    def _block(self, place: _Place, block: Block) -> None:
        self._enter(place, block)
        insns = self._program.insns
        for pc, state in self._facts.states(block):
            self._pc = pc
            if pc == block.last and not self._is_plain(insns[pc]):
                self._leave(place, block, pc, state)
                return
            self._instruction(place, pc, insns[pc], state)
        self._go(place, block.successors[0])

    def _enter(self, place: _Place, block: Block) -> None:
        """Pay for a block."""
        self._pc = block.start
        self._line(place.level, f"n -= {block.cost}")
        self._line(place.level, "if n < 0: m.budget = n; n = None; m.spend(0)")

    def _is_plain(self, insn: Insn) -> bool:
        """Whether it goes on with the next instruction, and is no call of a subprogram."""
        if insn.cls not in (Class.JMP, Class.JMP32):
            return True
        return insn.code in (isa.CALL, isa.CALLX) and insn.src != isa.PSEUDO_CALL

    def _leave(self, place: _Place, block: Block, pc: int, state: State) -> None:
        insn = self._program.insns[pc]
        if insn.code == isa.EXIT:
            self._exit(place, state)
        elif insn.code == isa.CALL:
            self._call(place, pc, state)
            self._go(place, block.successors[0])
        elif len(block.successors) == 1:
            if insn.cls in (Class.JMP, Class.JMP32) and self._condition(place, insn) is None:
                raise Unwritable(f"opcode 0x{insn.code:02x}")
            self._go(place, block.successors[0])
        elif insn.code == isa.MAY_GOTO:
            self._go(place, block.successors[0])
        else:
            self._branch(place, block, insn)

    def _condition(self, place: _Place, insn: Insn) -> str | None:
        if insn.code in (isa.JA, isa.JA32, isa.MAY_GOTO):
            return ""
        return source_alu.condition(place.registers, insn)

    def _branch(self, place: _Place, block: Block, insn: Insn) -> None:
        condition = self._condition(place, insn)
        if condition is None:
            raise Unwritable(f"opcode 0x{insn.code:02x}")
        after, taken = block.successors
        self._line(place.level, f"if {condition}:")
        level = place.level + 1
        registers = place.registers.copy(lambda text: self._line(level, text))
        pc = self._pc
        self._go(_Place(level, registers, place.loop), taken)
        self._pc = pc
        self._go(place, after)

    def _go(self, place: _Place, start: int) -> None:
        """Go on with the block at `start`: here, or where its label is."""
        if start not in self._facts.blocks:
            raise Unwritable("last insn is not an exit or jmp")
        if start not in self._labels:
            self._block(place, self._facts.blocks[start])
            return
        for register in sorted(place.registers.dirty):
            if self._facts.live[start] >> register & 1:
                place.registers.clean(register)
        if start == place.loop:
            self._line(place.level, "continue")
            return
        self._line(place.level, f"p = {self._labels.index(start)}")
        self._line(place.level, "continue" if place.loop < 0 else "break")

    def _exit(self, place: _Place, state: State) -> None:
        value = place.registers.clean(0) if state.may & 1 else "None"
        self._line(place.level, f"return {value}")

    # ---- instructions -----------------------------------------------------------------------

    def _instruction(self, place: _Place, pc: int, insn: Insn, state: State) -> None:
        written = True
        if insn.cls in (Class.ALU, Class.ALU64):
            written = source_alu.write(place.registers, insn)
        elif insn.cls is Class.LD:
            written = self._load_immediate(place, pc, insn)
        elif insn.cls is Class.LDX:
            written = self._load(place, pc, insn, state)
        elif insn.cls in (Class.ST, Class.STX):
            written = self._store(place, pc, insn, state)
        else:
            written = self._outside(place, pc, insn, state)
        if not written:
            self._by_reference(place, pc, insn, state)

    def _set(self, place: _Place, register: int, text: str) -> None:
        place.registers.dirty.pop(register, None)
        self._line(place.level, f"{place.registers.names[register]} = {text}")

    def _load_immediate(self, place: _Place, pc: int, insn: Insn) -> bool:
        if insn.code != isa.LD_IMM64:
            return False
        if pc in self._constants:
            self._set(place, insn.dst, str(self._constants[pc]))
            return True
        ref = self._program.refs.get(pc)
        if ref is not None:
            self.text.addresses.add(pc)
            self._set(place, insn.dst, f"address({pc})")
            return True
        second = self._program.insns[pc + 1] if pc + 1 < len(self._program.insns) else insn
        if insn.src or second.code:
            return False
        self._set(place, insn.dst, str((second.imm << 32 | insn.imm & M32) & M64))
        return True

    def _address(self, place: _Place, register: int, offset: int) -> str:
        name = place.registers.clean(register)
        return f"{name} + {offset} & {M64}" if offset else name

    def _load(self, place: _Place, pc: int, insn: Insn, state: State) -> bool:
        size, signed = insn.size_bytes, insn.mode == "memsx"
        if insn.mode != "mem" and (not signed or size == 8):
            return False
        access = self._facts.accesses.get(pc)
        if access is not None and self._slots is not None:
            text = f"{self._prefix}s{access.offset}"
        elif access is not None and access.mask & ~state.written == 0:
            text = f"u{size}(s, {access.offset})[0]"
        else:
            text = f"load{size}({self._address(place, insn.src, insn.off)})"
        self._set(place, insn.dst, text)
        if signed:
            half = 1 << size * 8 - 1
            name = place.registers.names[insn.dst]
            self._line(place.level, f"{name} = ({name} ^ {half}) - {half} & {M64}")
        return True

    def _store(self, place: _Place, pc: int, insn: Insn, state: State) -> bool:
        if insn.mode != "mem":
            return False
        size = insn.size_bytes
        mask = (1 << size * 8) - 1
        if insn.cls is Class.ST:
            value = str(insn.imm & mask)
        elif size == 8:
            value = place.registers.clean(insn.src)
        else:
            value = f"{place.registers.low(insn.src, 32)} & {mask}"
        access = self._facts.accesses.get(pc)
        if access is None:
            address = self._address(place, insn.dst, insn.off)
            self._line(place.level, f"store{size}({address}, {value})")
        elif self._slots is not None:
            self._line(place.level, f"{self._prefix}s{access.offset} = {value}")
        else:
            self._line(place.level, f"p{size}(s, {access.offset}, {value})")
            if access.mask & ~state.written:
                self._line(place.level, f"p{size}(w, {access.offset}, {WRITTEN[size]})")
        return True

    def _by_reference(self, place: _Place, pc: int, insn: Insn, state: State) -> None:
        """An instruction that is too rare for a text of its own: a step of the reference engine."""
        self.text.steps.add(pc)
        names = [place.registers.clean(r) if state.must >> r & 1 else "None" for r in range(11)]
        self._line(place.level, f"t = [{', '.join(names)}]; m.budget = n; n = None")
        self._line(place.level, f"step{pc}(t)")
        self._line(place.level, "n = m.budget")
        for register in range(10):
            if registers_written(insn) >> register & 1:
                self._set(place, register, f"t[{register}]")

    # ---- calls ------------------------------------------------------------------------------

    def _arguments(self, place: _Place, state: State) -> str:
        """R1 to R5 for a callee that looks for itself which are there."""
        names = [place.registers.clean(r) if state.may >> r & 1 else "None" for r in range(1, 6)]
        return ", ".join(names)

    def _forget(self, place: _Place) -> None:
        """A call leaves R1 to R5 empty."""
        for register in range(6):
            place.registers.dirty.pop(register, None)
        for register in sorted(self._tracked & set(range(1, 6))):
            self._line(place.level, f"r{register} = None")

    def _outside(self, place: _Place, pc: int, insn: Insn, state: State) -> bool:
        """A call of a helper or a kfunc."""
        ref = self._program.refs.get(pc)
        if insn.code == isa.CALL and insn.src == isa.HELPER_CALL:
            self.text.helpers.add(insn.imm)
            function = f"h{insn.imm & M32}"
        elif insn.code == isa.CALL and ref is not None and ref.kind is RefKind.KFUNC:
            self.text.kfuncs.add(pc)
            function = f"k{pc}"
        else:
            return False
        given = self._arguments(place, state)
        self._line(place.level, f"m.pc = {pc}; m.budget = n; n = None")
        self._line(place.level, f"r0 = {function}([{given}])")
        self._line(place.level, "n = m.budget")
        self._forget(place)
        if self._facts.live_after(pc) & 1:
            self._go_elsewhere(place, pc, state)
        return True

    def _go_elsewhere(self, place: _Place, pc: int, state: State) -> None:
        """The call gave nothing, and R0 may be read: the reference engine goes on."""
        saved = [place.registers.clean(r) if state.may >> r & 1 else "None" for r in range(6, 10)]
        registers = f"[None, None, None, None, None, None, {', '.join(saved)}, r10]"
        variables = "".join(f"({o}, {n}, s{o}), " for o, n in (self._slots or {}).items())
        after = following(pc, self._program.insns[pc])
        self._line(place.level, "if r0 is None:")
        self._line(place.level + 1, "m.budget = n; n = None")
        self._line(place.level + 1, f"return go_on({after}, {registers}, stack, ({variables}))")

    def _call(self, place: _Place, pc: int, state: State) -> None:
        """A call of a function of the program."""
        callee = self._callees.get(pc)
        if callee is not None and not callee.facts.needs & ~state.must:
            self.text.nesting = max(self.text.nesting, callee.nesting)
            if callee.inline:
                self._inline(place, callee.facts)
                return
            needs = callee.facts.needs
            names = [place.registers.clean(r) if needs >> r & 1 else "None" for r in range(1, 6)]
            call = f"f{callee.facts.function.start}({', '.join(names)}, 0, None)"
        else:
            call = f"call({pc}, [{self._arguments(place, state)}])"
        self._line(place.level, "m.budget = n; n = None")
        self._line(place.level, f"r0 = {call}")
        self._line(place.level, "n = m.budget")
        self._forget(place)

    def _inline(self, place: _Place, facts: Facts) -> None:
        """Write the only block of a function that uses nothing but registers and variables."""
        prefix = f"i{facts.function.start}_"
        writer = Writer(facts, self._constants, {}, bare=True, prefix=prefix)
        writer.text = self.text
        names = [*place.registers.names[:6], *(f"{prefix}r{r}" for r in range(6, 10)), "0"]
        dirty = {r: d for r, d in place.registers.dirty.items() if r < 6}
        registers = source_alu.Registers(place.registers.emit, names, dirty)
        writer.body(place.level, registers)
        self._forget(place)
        if 0 in registers.dirty:
            place.registers.dirty[0] = registers.dirty[0]

    def body(self, level: int, registers: source_alu.Registers) -> None:
        """The instructions of the only block, without its exit; the result is in R0."""
        (block,) = self._facts.blocks.values()
        registers.emit = lambda text: self._line(level, text)
        place = _Place(level, registers)
        self._enter(place, block)
        for pc, state in self._facts.states(block):
            self._pc = pc
            if pc != block.last:
                self._instruction(place, pc, self._program.insns[pc], state)
