# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The engine of generated Python: each function of a program becomes a Python function.

Owns which functions it takes, what their text may call, and how an error finds its instruction:
by the line of the text that raised it, so that the text itself pays nothing. What it cannot take,
and whatever somebody watches, the reference engine executes, function by function.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.bpf import isa
from harness.bpf.link import LinkedFunction, Program, RefKind
from harness.sim import alu
from harness.sim.alu import M32
from harness.sim.engines import Registers, reference, reference_insns
from harness.sim.engines.analysis import Facts, analyse
from harness.sim.engines.source_shape import Callee, Text, Unwritable
from harness.sim.engines.source_text import Writer
from harness.sim.engines.usage import is_packet_load
from harness.sim.memory import FORMATS
from harness.sim.signals import EndFunction, Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine
    from harness.sim.memory import Region

# Python's compiler needs some kilobytes for each instruction
MAX_INSTRUCTIONS = 20_000
# instructions of a function that is copied into its callers
_INLINED = 24
_ARGUMENTS = range(1, 6)
# blocks that the reference engine executes on the way to one where a function can be entered
_MOST_STEPS = 1000
# R1 to R5, R10, the stack; p, R0, R6 to R9
_Function = Callable[..., int | None]


@dataclass(frozen=True, slots=True)
class _Ready:
    """One function of the program."""

    function: _Function
    # arguments that it takes for granted
    needs: tuple[int, ...]
    # frames that it may nest without asking the machine
    nesting: int
    # block where it can be entered -> how the function calls that
    labels: dict[int, int]

    def needs_more(self, registers: Registers) -> bool:
        """Whether an argument is missing."""
        for number in self.needs:  # noqa: SIM110  # a call of any() takes longer than all of it
            if registers[number] is None:
                return True
        return False


class SourceCode:
    """A program as Python functions."""

    def __init__(self, machine: "Machine", program: Program) -> None:
        began = time.process_time()
        self._machine = machine
        self._program = program
        self._reference = reference.prepare(machine, program)
        # function that the reference engine executes -> why
        self.declined: dict[str, str] = {}
        self._file = f"<{program.name}>"
        self._functions: dict[int, _Ready] = {}
        # by line of the text
        self._pcs: list[int] = []
        self._compile()
        self.compile_s = time.process_time() - began

    @property
    def engine(self) -> str:
        """Name of the engine, and of the one that does what it declined."""
        if not self._functions:
            return "reference"
        return "source and reference" if self.declined else "source"

    def run(self, function: LinkedFunction, registers: Registers) -> int | None:
        """Execute a function. See harness.sim.engines.Code."""
        ready = self._functions.get(function.start)
        if ready is None or self._is_watched(ready) or ready.needs_more(registers):
            return self._reference.run(function, registers)
        frame = registers[10]
        stack = self._machine.memory.regions[frame >> 32]
        return self._execute(ready.function, (*registers[1:6], frame, stack))

    def go_on_at(self, function: LinkedFunction, pc: int, registers: Registers) -> int | None:
        """Execute the rest of a function that the reference engine brought to block `pc`.

        That engine goes on where the block cannot be entered, until one that can.
        """
        ready, regions = self._functions.get(function.start), self._machine.memory.regions
        for _ in range(_MOST_STEPS):
            label = ready.labels.get(pc) if ready is not None else None
            if ready is not None and label is not None and not self._is_watched(ready):
                frame = registers[10]
                saved = (registers[0], *registers[6:10])
                given = (*registers[1:6], frame, regions[frame >> 32], label, *saved)
                return self._execute(ready.function, given)
            pc = self._reference.advance(function, pc, registers)
            if pc == reference_insns.EXIT:
                result: int | None = registers[0]
                return result
        return self._reference.run_from(function, pc, registers)

    def _is_watched(self, ready: _Ready) -> bool:
        """Whether only the reference engine can do it now."""
        trace, nesting = self._machine.trace, ready.nesting
        watched = trace.on or trace.every_instruction is not None
        return watched or (nesting > 0 and self._machine.frames_left() < nesting)

    def _execute(self, function: _Function, given: tuple[Any, ...]) -> int | None:
        try:
            return function(*given)
        except EndFunction:
            return 0
        except (Fault, Unsupported) as error:
            if not error.located:
                self._machine.locate(error, self._program, self._pc_of(error))
            raise

    def _pc_of(self, error: Exception) -> int:
        """Instruction of the innermost line of the text that an error came through."""
        found, trace = 0, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self._file:
                found = self._pcs[trace.tb_lineno - 1]
            trace = trace.tb_next
        return found

    # ---- making it ----------------------------------------------------------------------------

    def _compile(self) -> None:
        if len(self._program.insns) > MAX_INSTRUCTIONS:
            why = f"more than {MAX_INSTRUCTIONS} instructions"
            self.declined = {f.name: why for f in self._program.functions}
            return
        texts, lines = {}, []
        constants = self._constants()
        bare: dict[int, Callee] = {}
        for facts in _callees_first(analyse(self._program)):
            start = facts.function.start
            callees = {
                pc: bare[callee.function.start]
                for pc, callee in facts.callees.items()
                if callee.function.start in bare
            }
            try:
                text = self._write(facts, constants, callees, bare)
            except Unwritable as error:
                self.declined[facts.function.name] = str(error)
                continue
            texts[start] = facts, text
            lines += text.lines
            self._pcs += text.pcs
        names = self._names([text for _, text in texts.values()])
        exec(compile("\n".join(lines), self._file, "exec"), names)  # noqa: S102  # our own text
        for start, (facts, text) in texts.items():
            needs = tuple(r for r in _ARGUMENTS if facts.needs >> r & 1)
            self._functions[start] = _Ready(names[f"f{start}"], needs, text.nesting, text.labels)

    def _write(
        self,
        facts: Facts,
        constants: dict[int, int],
        callees: dict[int, Callee],
        bare: dict[int, Callee],
    ) -> Text:
        """Text of a function; notes in `bare` that it can be called without a frame."""
        if facts.unproven:
            raise Unwritable(facts.unproven)
        start, name = facts.function.start, f"f{facts.function.start}"
        if self._is_closed(facts, callees):
            try:
                text = Writer(facts, constants, callees, bare=True).write(name)
            except Unwritable:
                pass
            else:
                inline = len(facts.blocks) == 1 and facts.function.end - start <= _INLINED
                bare[start] = Callee(facts, inline and facts.returns, text.nesting + 1)
                return text
        return Writer(facts, constants, callees, bare=False).write(name)

    def _is_closed(self, facts: Facts, callees: dict[int, Callee]) -> bool:
        """Whether nobody could tell that a call of this function has no frame of the machine."""
        function, insns = facts.function, self._program.insns
        if function.linkage != "static" or self._machine.companions:
            return False
        if function is self._program.functions[0] or callees.keys() != facts.callees.keys():
            return False
        return not any(
            (insns[pc].code in (isa.CALL, isa.CALLX) and pc not in facts.callees)
            or is_packet_load(insns[pc])
            for block in facts.blocks.values()
            for pc in block.pcs
        )

    def _constants(self) -> dict[int, int]:
        """Addresses that are the same in the whole life of the machine, by instruction."""
        found = {}
        for pc, ref in self._program.refs.items():
            if ref.kind in (RefKind.MAP, RefKind.GLOBAL):
                with contextlib.suppress(Unsupported):
                    found[pc] = self._machine.address_of(self._program, ref)
        return found

    def _names(self, texts: list[Text]) -> dict[str, Any]:
        """Everything that texts call."""
        machine, program, memory = self._machine, self._program, self._machine.memory
        names: dict[str, Any] = {"m": machine, "swap": alu.swap, "go_on": self._go_on}
        names["call"] = self._call
        names["address"] = lambda pc: machine.address_of(program, program.refs[pc])
        for size, form in FORMATS.items():
            names[f"u{size}"], names[f"p{size}"] = form.unpack_from, form.pack_into
            names[f"load{size}"], names[f"store{size}"] = memory.loader(size), memory.storer(size)
        for bits, table in ((64, alu.ALU64), (32, alu.ALU32)):
            for name in ("sdiv", "smod"):
                names[f"{name}{bits}"] = table[name]
        for text in texts:
            names |= {f"h{number & M32}": machine.helper(number) for number in text.helpers}
            names |= {f"k{pc}": machine.kfunc(program.refs[pc]) for pc in text.kfuncs}
            steps = {
                f"step{pc}": reference_insns.make_step(machine, program, pc) for pc in text.steps
            }
            names |= steps
        return names

    # ---- what texts call ------------------------------------------------------------------------

    def _call(self, pc: int, arguments: Registers) -> int | None:
        """A call of a subprogram through the machine."""
        program = self._program
        callee = program.function_at(pc + 1 + program.insns[pc].imm)
        return self._machine.call(program, callee, arguments, pc)

    def _go_on(
        self,
        pc: int,
        registers: Registers,
        stack: "Region",
        variables: tuple[tuple[int, int, int | None], ...],
    ) -> int | None:
        """Let the reference engine execute the rest of a function."""
        for offset, size, value in variables:
            if value is not None:
                self._machine.memory.store(stack.address + offset, size, value)
        return self._reference.resume(self._program.function_at(pc), pc, registers)


def prepare(machine: "Machine", program: Program) -> SourceCode:
    """The engine. Raises Fault for code that leaves a function."""
    return SourceCode(machine, program)


def _callees_first(facts: tuple[Facts, ...]) -> list[Facts]:
    """Functions in an order in which callees come before their callers, where that is possible."""
    ordered: dict[int, Facts] = {}
    entered: set[int] = set()
    for first in facts:
        waiting = [first]
        while waiting:
            known = waiting[-1]
            start = known.function.start
            entered.add(start)
            missing = [c for c in known.callees.values() if c.function.start not in entered]
            if missing:
                waiting.append(missing[0])
            else:
                ordered.setdefault(start, known)
                waiting.pop()
    return list(ordered.values())
