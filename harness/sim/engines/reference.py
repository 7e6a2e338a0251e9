# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The reference interpreter: one Python closure per instruction, run block by block.

It is what the other engines are held against. Owns the order of execution, the budget and the
words of faults; what an instruction does is harness.sim.engines.reference_insns', frames, calls and
unwinding are harness.sim.machine's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.bpf.isa import registers_read
from harness.bpf.program import LinkedFunction, Program
from harness.sim.engines import Registers, Step
from harness.sim.engines.blocks import Block, blocks_of, following
from harness.sim.engines.reference_insns import EXIT, Leave, goto, make_leave, make_step
from harness.sim.signals import EndFunction, Fault, Unsupported
from harness.sim.structure import check_for

if TYPE_CHECKING:
    from harness.sim.machine import Machine

# told of every instruction before it runs
Watch = Callable[[Program, int, Registers], None]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A block whose instructions were made into closures."""

    pcs: tuple[int, ...]
    cost: int
    steps: tuple[Step, ...]
    leave: Leave

    def pc_of(self, closure: Step | Leave) -> int:
        """Instruction that a closure was made from."""
        return self.pcs[-1 if closure is self.leave else self.steps.index(closure)]


class ReferenceCode:
    """A program for the reference interpreter; a block is made when it is first entered."""

    engine = "reference"
    compile_s = 0.0

    def __init__(self, machine: "Machine", program: Program) -> None:
        self._machine = machine
        self._trace = machine.trace
        self._program = program
        self._ready: dict[int, _Ready] = {}
        # first instruction of a function -> its blocks
        self._functions: dict[int, dict[int, Block]] = {}

    def run(self, function: LinkedFunction, registers: Registers) -> int | None:
        """Execute a function: R0, or None. See harness.sim.engines.Code."""
        trace = self._trace
        if trace.instructions or trace.watcher is not None:
            return self.run_from(function, function.start, registers)
        self._run(function, registers, function.start)
        result: int | None = registers[0]
        return result

    def run_from(self, function: LinkedFunction, pc: int, registers: Registers) -> int | None:
        """Execute a function from the block at `pc` on."""
        watch = self._machine.trace.every_instruction
        try:
            if watch is None:
                self._run(function, registers, pc)
            else:
                self._run_watched(function, registers, pc, watch)
        except EndFunction:
            return 0
        result: int | None = registers[0]
        return result

    def advance(
        self, function: LinkedFunction, pc: int, registers: Registers, floor: int | None = None
    ) -> int:
        """Execute from the block at `pc` until one would take the budget below `floor`.

        That block, or EXIT. Without a floor: one block.
        """
        if floor is None:
            block = self._blocks(function).get(pc)
            floor = self._machine.budget - (block.cost if block is not None else 0)
        return self._run(function, registers, pc, max(floor, 0))

    def resume(self, function: LinkedFunction, pc: int, registers: Registers) -> int | None:
        """Execute the rest of a function, for an engine that charged the block of `pc` already."""
        block = next(b for b in self._blocks(function).values() if b.start <= pc <= b.last)
        try:
            if pc > block.start:
                rest = self._ready.get(block.start) or self._make(function, block.start)
                pc = self._run_rest(rest, block.pcs.index(pc), registers)
            self._run(function, registers, pc)
        except EndFunction:
            return 0
        result: int | None = registers[0]
        return result

    def _run_rest(self, block: _Ready, before: int, registers: Registers) -> int:
        step: Step | Leave | None = None
        try:
            for step in block.steps[before:]:
                step(registers)
            leave = step = block.leave
            return leave(registers)
        except (TypeError, Fault, Unsupported) as error:
            self._explain(error, block.pc_of(step or block.leave), registers)
            raise

    def _run(self, function: LinkedFunction, registers: Registers, pc: int, floor: int = 0) -> int:
        ready, machine = self._ready, self._machine
        step: Step | Leave | None = None
        try:
            while pc != EXIT:
                step = None
                block = ready[pc] if pc in ready else self._make(function, pc)
                left = machine.budget - block.cost
                if left < floor:
                    if left < 0:
                        machine.spend(block.cost)  # says so
                    return pc
                machine.budget = left
                for step in block.steps:
                    step(registers)
                leave = step = block.leave
                pc = leave(registers)
        except EndFunction:
            registers[0] = 0
        except (TypeError, Fault, Unsupported) as error:
            self._explain(error, pc if step is None else ready[pc].pc_of(step), registers)
        return EXIT

    def _run_watched(
        self, function: LinkedFunction, registers: Registers, pc: int, watch: Watch
    ) -> None:
        """The same, with a word to the trace before each instruction."""
        program = self._program
        try:
            while pc != EXIT:
                block = self._ready.get(pc) or self._make(function, pc)
                self._machine.spend(block.cost)
                for at, step in zip(block.pcs, block.steps, strict=False):
                    pc = at
                    watch(program, pc, registers)
                    step(registers)
                if len(block.steps) < len(block.pcs):
                    pc = block.pcs[-1]
                    watch(program, pc, registers)
                pc = block.leave(registers)
        except (TypeError, Fault, Unsupported) as error:
            self._explain(error, pc, registers)

    def _explain(
        self, error: TypeError | Fault | Unsupported, pc: int, registers: Registers
    ) -> None:
        """Raise what came out of instruction `pc` again, with the place in the message."""
        if isinstance(error, TypeError):
            read = registers_read(self._program.insns[pc])
            empty = next((r for r in read if registers[r] is None), None)
            if empty is None:
                raise error
            raise self._machine.locate(
                Fault(f"R{empty} is not initialised"), self._program, pc
            ) from error
        raise self._machine.locate(error, self._program, pc)

    def _blocks(self, function: LinkedFunction) -> dict[int, Block]:
        if function.start not in self._functions:
            self._functions[function.start] = blocks_of(self._program, function)
        return self._functions[function.start]

    def _make(self, function: LinkedFunction, pc: int) -> _Ready:
        """Make the closures of the block at `pc`."""
        block = self._blocks(function).get(pc)
        if block is None:
            raise Fault(f"last insn is not an exit or jmp; function {function.name}")
        leave = make_leave(self._machine, self._program, block.last)
        pcs = block.pcs if leave is None else block.pcs[:-1]
        steps = tuple(make_step(self._machine, self._program, at) for at in pcs)
        after = following(block.last, self._program.insns[block.last])
        made = _Ready(block.pcs, block.cost, steps, leave or goto(after))
        self._ready[pc] = made
        return made


def prepare(machine: "Machine", program: Program) -> ReferenceCode:
    """The engine. Raises Fault for code that a kernel does not take or that leaves a function."""
    check_for(machine, program)
    return ReferenceCode(machine, program)
