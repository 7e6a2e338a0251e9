# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which engine executes a program: by name, or by the work ahead.

`auto` starts every program in the reference interpreter, which needs no preparation. It counts
instructions, and changes to a faster engine as soon as what that saves on the work ahead is more
than what it costs to make: between runs, and also in the middle of a loop, where the source engine
can go on from the start of a block. The costs below are from `bpfthrow bench --only engines`; they
decide about speed only, never about results.
"""

import functools
import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.bpf.link import LinkedFunction, Program
from harness.errors import UsageError
from harness.sim.engines import (
    Code,
    Declined,
    Engine,
    Registers,
    reference,
    reference_insns,
    source,
)

if TYPE_CHECKING:
    from harness.sim.machine import Machine

AUTO = "auto"
NAMES = (AUTO, "reference", "source", "native")
_JIT = "pip install 'bpfthrow[jit]'"
_NATIVE = "harness.sim.engines.native"


@dataclass(frozen=True, slots=True)
class _Costs:
    """What an engine is expected to take."""

    # to make a program ready, and for each of its instructions
    fixed_s: float
    instruction_s: float
    # for each run, and for each instruction that it executes
    run_s: float
    executed_s: float


# real programs: their instructions touch packets and maps
_COSTS = {
    "reference": _Costs(0.0, 0.0, 0.0, 0.20e-6),
    "source": _Costs(0.0005, 60e-6, 0.0, 0.06e-6),
    # each call of a helper leaves native code and costs as much as a hundred instructions
    "native": _Costs(0.010, 60e-6, 200e-6, 0.01e-6),
}
# instructions that the reference interpreter executes in the time that source needs for one
_SLICE = 300


def named(name: str, runs: int | None = 1) -> Engine:
    """Engine of this name; `runs`: how often a program will run, None where nobody knows.

    A program that the native engine declines runs in the reference engine: Code.engine says so.
    Raises UsageError for an unknown name, and for `native` without llvmlite.
    """
    if name not in NAMES:
        raise UsageError(f"no engine {name!r}", fix=f"engines: {', '.join(NAMES)}")
    if name == AUTO:
        return lambda machine, program: AutoCode(machine, program, runs)
    if name == "native":
        if not has_native():
            raise UsageError("engine 'native' needs llvmlite, which is not installed", fix=_JIT)
        return _native
    return reference.prepare if name == "reference" else source.prepare


@functools.cache
def has_native() -> bool:
    """Whether the native engine can be used here."""
    return importlib.util.find_spec("llvmlite") is not None


def _native(machine: "Machine", program: Program) -> Code:
    try:
        made: Code = importlib.import_module(_NATIVE).prepare(machine, program)
    except Declined:
        return reference.prepare(machine, program)
    return made


class AutoCode:
    """A program that changes its engine when that pays."""

    def __init__(self, machine: "Machine", program: Program, runs: int | None) -> None:
        self.compile_s = 0.0
        self._machine = machine
        self._program = program
        self._reference = reference.prepare(machine, program)
        self._code: Code = self._reference
        self._name = "reference"
        self._runs = runs
        self._slice = _SLICE * len(program.insns)
        # outermost calls of `run` on the present engine, and the instructions that they executed
        self._done = 0
        self._executed = 0
        # what the budget was when the outermost call began; None: none is going on
        self._began: int | None = None
        self._rejected = set() if has_native() else {"native"}

    @property
    def engine(self) -> str:
        """Name of the engine that it came to."""
        return self._code.engine

    def run(self, function: LinkedFunction, registers: Registers) -> int | None:
        """Execute a function. See harness.sim.engines.Code."""
        trace, machine = self._machine.trace, self._machine
        if trace.on or trace.every_instruction is not None:
            return self._reference.run(function, registers)
        if self._began is not None:
            return self._run(function, registers)
        self._began = machine.budget
        try:
            return self._run(function, registers)
        finally:
            self._executed += self._began - machine.budget
            self._began = None
            self._done += 1
            self._choose()

    def _run(self, function: LinkedFunction, registers: Registers) -> int | None:
        if self._code is not self._reference or "source" in self._rejected:
            return self._code.run(function, registers)
        assert self._began is not None
        floor = self._began - self._slice
        pc = self._reference.advance(function, function.start, registers, floor)
        if pc == reference_insns.EXIT:
            result: int | None = registers[0]
            return result
        self._change("source")  # a long run: the rest of it is worth a compilation
        code = self._code
        if isinstance(code, source.SourceCode):
            return code.go_on_at(function, pc, registers)
        return self._reference.run_from(function, pc, registers)

    def _choose(self) -> None:
        """Change to another engine if the runs ahead are worth it."""
        left = self._done if self._runs is None else self._runs - self._done
        if left <= 0:
            return
        executed = left * self._executed / self._done
        here = _COSTS[self._name]
        best, least_s = "", left * here.run_s + executed * here.executed_s
        for name, costs in _COSTS.items():
            if name in self._rejected or costs.executed_s >= here.executed_s:
                continue
            ready_s = costs.fixed_s + costs.instruction_s * len(self._program.insns)
            all_s = ready_s + left * costs.run_s + executed * costs.executed_s
            if all_s < least_s:
                best, least_s = name, all_s
        if best:
            self._change(best)

    def _change(self, name: str) -> None:
        """Make the code of an engine; one that declines is not asked again."""
        prepare = source.prepare if name == "source" else _native
        made = prepare(self._machine, self._program)
        if made.engine == "reference":
            self._rejected.add(name)
            return
        self._name = name
        self.compile_s += made.compile_s
        self._code = made
        if self._runs is not None:
            self._runs -= self._done
        self._done = self._executed = 0
