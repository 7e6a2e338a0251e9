# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A machine for raw instructions: memory, frames and one helper; no object, maps or exceptions.

Offers an engine what harness.sim.machine.Machine offers, as far as a program without relocations
can ask for it, and imports nothing else: bpfthrow-plugin is started once for each test, and that is
most of its time. R1 and R2 are the memory's address and length, R10 a stack of 512 bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from harness.bpf import isa, opcodes, reserved
from harness.bpf.program import LinkedFunction, Program, Ref, RefKind
from harness.errors import ObjectError, UsageError
from harness.sim.engines import Code, Declined, Registers
from harness.sim.memory import STACK_BYTES, Memory
from harness.sim.signals import Fault, Unsupported

DEFAULT_BUDGET = 10_000_000
MAX_FRAMES = 8
# name -> module with the function `prepare`
ENGINES = {
    "reference": "harness.sim.engines.reference",
    "source": "harness.sim.engines.source",
    "native": "harness.sim.engines.native",
}
_REFERENCE = "reference"
# others ask more of a machine
_ON_THIS_MACHINE = frozenset({_REFERENCE, "source"})
_UNWIND = 5

# told of every instruction before it runs: program, index, registers
Watch = Callable[[Program, int, Registers], None]
Prepare = Callable[[Any, Program], Code]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one program."""

    # all 64 bits of R0; None where it did not come to its exit
    r0: int | None
    # one line that says why, "" where it did
    error: str
    # instructions that were left
    budget: int
    # memory afterwards
    memory: bytes = b""
    # what ran it: another engine declines some programs
    engine: str = field(default=_REFERENCE, compare=False)


class _Trace:
    """What engines ask of a trace: whether somebody watches."""

    on = instructions = False

    def __init__(self, watch: Watch | None) -> None:
        self.every_instruction = self.watcher = watch


class Machine:
    """One run of one program."""

    # the suite's callx
    calls_by_register = True
    # no skb to load from: LD_ABS and LD_IND are a fault
    program_type = ""
    # nothing replaces or watches the program
    companions = ()

    def __init__(self, budget: int, watch: Watch | None) -> None:
        self.memory = Memory()
        self.trace = _Trace(watch)
        self.budget = budget
        self.depth = 0
        self.maps: dict[str, Any] = {}
        # what R1 points to
        self.given = bytearray()
        # instruction of the call that is going on
        self.pc = 0
        self._code: Code | None = None

    def run(self, program: Program, memory: bytes, prepare: Prepare) -> int:
        """R0 of a program. Raises Fault, Unsupported."""
        self.given[:] = memory
        address = self.memory.region("memory", self.given).address if memory else 0
        self._code = prepare(self, program)
        arguments = [address, len(memory), None, None, None]
        result = self._frame(program.functions[0], arguments)
        if result is None:
            raise Fault(f"R0 of {program.name} is not initialised at exit")
        return result

    def _frame(self, function: LinkedFunction, arguments: Registers) -> int | None:
        assert self._code is not None
        self.depth += 1
        if self.depth > MAX_FRAMES:
            raise Fault(f"the call stack of {self.depth} frames is too deep !")
        stack = self.memory.stack("stack of " + function.name, self.budget)
        registers: Registers = [None, *arguments, *[None] * 4, stack.address + STACK_BYTES]
        result = self._code.run(function, registers)
        self.memory.end_stack(stack)
        self.depth -= 1
        return result

    # ---- what engines ask for ---------------------------------------------------------------

    def spend(self, instructions: int) -> None:
        """Take from the budget. Raises Unsupported when it is used up."""
        self.budget -= instructions
        if self.budget < 0:
            raise Unsupported("instruction budget used up")

    def frames_left(self) -> int:
        """Frames of static subprograms that the running function may nest."""
        return MAX_FRAMES - self.depth

    def call(
        self, _program: Program, callee: LinkedFunction, args: Registers, _pc: int
    ) -> int | None:
        """A call between functions of the program."""
        return self._frame(callee, args)

    def caller(
        self, _program: Program, callee: LinkedFunction, pc: int
    ) -> Callable[[Registers], int]:
        """The same, as what it does to the caller's registers."""

        def call(registers: Registers) -> int:
            registers[0] = self._frame(callee, registers[1:6])
            registers[1:6] = [None] * 5
            return pc + 1

        return call

    def helper(self, number: int) -> Callable[[Registers], int | None]:
        """The suite's only helper."""
        return suite_helper(number)

    def kfunc(self, ref: Ref) -> Callable[[Registers], int | None]:
        """A call of one is only an error when it is reached."""
        return absent_function(ref)

    def address_of(self, _program: Program, ref: Ref) -> int:
        """There is nothing to refer to."""
        raise absent(ref)

    def locate(self, error: Fault | Unsupported, program: Program, pc: int) -> Fault | Unsupported:
        """Put the place into an error's message, once."""
        if not getattr(error, "located", False) and 0 <= pc < len(program.insns):
            error.args = (f"{error}; instruction {pc} in {program.function_at(pc).name}",)
            error.located = True
        return error


def run(
    code: bytes,
    memory: bytes = b"",
    engine: str = "reference",
    *,
    budget: int = DEFAULT_BUDGET,
    watch: Watch | None = None,
) -> Result:
    """Run raw instructions from the first one.

    What is wrong with them is in the result. Raises UsageError for an engine that is not there.
    """
    prepare = engine_named(engine)
    try:
        if engine in _ON_THIS_MACHINE:
            return _run(code, memory, engine, prepare, budget, watch)
        from harness.conformance import whole  # noqa: PLC0415  # imports all of the simulator

        return whole.run(code, memory, engine, prepare, budget, watch)
    except Declined:
        prepare = engine_named(_REFERENCE)
        return _run(code, memory, _REFERENCE, prepare, budget, watch)


def _run(
    code: bytes, memory: bytes, engine: str, prepare: Prepare, budget: int, watch: Watch | None
) -> Result:
    machine = Machine(budget, watch)
    try:
        r0 = machine.run(program_of(code), memory, prepare)
    except (Fault, Unsupported, ObjectError) as error:
        return refused(error, machine.budget, engine)
    return Result(r0, "", machine.budget, bytes(machine.given), engine)


def refused(error: Exception, budget: int, engine: str) -> Result:
    """Result of a program that did not come to its exit."""
    return Result(None, str(error.args[0]).replace("\n", " "), max(budget, 0), engine=engine)


def suite_helper(number: int) -> Callable[[Registers], int | None]:
    """Helper 5 of the public suite: an unwind that fails. There are no others."""

    def call(_args: Registers) -> int:
        if number != _UNWIND:
            raise Unsupported(f"helper {number}")
        return 1

    return call


def absent(ref: Ref) -> Unsupported:
    """What happens to a program that refers to something outside of itself."""
    return Unsupported(f"{ref.name}: raw instructions come without")


def absent_function(ref: Ref) -> Callable[[Registers], int | None]:
    """The call of such a thing."""

    def call(_args: Registers) -> int:
        raise absent(ref)

    return call


def engine_named(name: str) -> Prepare:
    """The engine's `prepare`. Raises UsageError where it, or what it needs, is missing."""
    if name not in ENGINES:
        raise UsageError(f"no engine {name!r}", fix=f"engines: {', '.join(ENGINES)}")
    engine = import_module(ENGINES[name])
    if getattr(engine, "llvm", engine) is None:
        raise UsageError(
            f"engine {name!r} needs llvmlite, which is not installed",
            fix="pip install 'bpfthrow[jit]'",
        )
    prepare: Prepare = engine.prepare
    return prepare


def program_of(code: bytes) -> Program:
    """Raw instructions as a program: what local calls go to starts a function.

    Raises ObjectError for a length that is no number of instructions, Fault for a call to nowhere
    and for what no kernel takes; callx is taken.
    """
    insns = isa.decode(code)
    if not insns:
        raise ObjectError("no instructions")
    starts = {0}
    for pc, insn in enumerate(insns):
        if insn.code == isa.CALL and insn.src == isa.PSEUDO_CALL:
            target = pc + 1 + insn.imm
            if not 0 <= target < len(insns):
                raise Fault(f"call to invalid destination; instruction {pc}")
            starts.add(target)
    _check(insns)
    ordered = sorted(starts)
    functions = tuple(
        LinkedFunction("main" if start == 0 else f"function at {start}", start, end, "static")
        for start, end in zip(ordered, [*ordered[1:], len(insns)], strict=True)
    )
    return Program("main", "", insns, functions, _references(insns), {})


def _references(insns: Sequence[isa.Insn]) -> dict[int, Ref]:
    """What an object would name by relocations: kernel functions, maps, variables, functions."""
    refs = {}
    for pc, insn in enumerate(insns):
        if insn.code == isa.CALL and insn.src == isa.PSEUDO_KFUNC_CALL:
            refs[pc] = Ref(RefKind.KFUNC, f"kernel function {insn.imm}")
        elif insn.code == isa.LD_IMM64 and insn.src:
            form = opcodes.find(insn)
            assert form is not None  # _check saw to it
            refs[pc] = Ref(RefKind.EXTERN, f"{form.name} {insn.imm}")
    return refs


def _check(insns: Sequence[isa.Insn]) -> None:
    for problem in reserved.problems(insns, strict=True):
        insn = insns[problem.pc]
        if insn.code != isa.CALLX or insn.dst > 10 or insn.src or insn.off or insn.imm:
            raise Fault(f"{problem.words}; instruction {problem.pc}")
