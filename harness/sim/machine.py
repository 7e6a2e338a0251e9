# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The machine: frames, calls, tail calls, companions, and unwinding.

Owns what happens between functions: a throw leaves every frame down to the nearest one that
belongs to a program (not a subprogram; harness.sim.unwind), whose callback runs in its place.
Instructions are harness.sim.engines', helpers harness.sim.helpers', what frames hold
harness.sim.resources'.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from harness.bpf.btf import Kind
from harness.bpf.elf import Object
from harness.bpf.environment import NOWHERE, Environment
from harness.bpf.link import KCONFIG, LinkedFunction, Program, Ref, RefKind, link
from harness.bpf.special import spans
from harness.errors import UsageError
from harness.model import Companion
from harness.sim import absent, calls, helpers, kfuncs, unwind
from harness.sim.companions import Attached
from harness.sim.context import Context, tracing
from harness.sim.engines import Code, Engine, Registers, reference
from harness.sim.frames import (
    CALLBACK,
    EXCEPTION_CALLBACK,
    PROGRAM,
    SUBPROGRAM,
    Frame,
    allow_depth,
    check_depth,
    frames_left,
)
from harness.sim.mapkinds import arenas
from harness.sim.maps import Map, check, create, fill
from harness.sim.memory import STACK_BYTES, Memory, Region
from harness.sim.objects import Objects
from harness.sim.resources import Resources
from harness.sim.semantics import Profile
from harness.sim.signals import Fault, TailCall, Throw, Unsupported
from harness.sim.trace import Trace, located, place, value
from harness.sim.world import Recorder, World

DEFAULT_BUDGET = 10_000_000
MAX_TAIL_CALLS = 33
_OF_THE_OBJECT = frozenset({RefKind.MAP, RefKind.GLOBAL})


@dataclass(slots=True)
class Machine:
    """One simulated kernel with one object loaded; state carries on from run to run."""

    obj: Object
    profile: Profile
    trace: Trace
    budget: int = DEFAULT_BUDGET
    seed: int = 1
    companions: tuple[Companion, ...] = ()
    # what is known of the kernel on which libbpf would load
    environment: Environment = NOWHERE
    # of the program that runs: decides what some helpers do
    program_type: str = ""
    # whether callx (0x8d) is an instruction: for no kernel it is
    calls_by_register: bool = False
    memory: Memory = field(default_factory=Memory)
    frames: list[Frame] = field(default_factory=list)
    maps: dict[str, Map] = field(default_factory=dict)
    map_by_address: dict[int, Map] = field(default_factory=dict)
    # seeded inputs, and what left the program by helpers: redirects, clones, events
    world: World = field(default_factory=World)
    recorder: Recorder = field(default_factory=Recorder)
    sections: dict[str, Region] = field(default_factory=dict)
    # of the run that is going on
    context: Context = field(default_factory=lambda: Context(0))
    # instruction of the helper call that is going on
    pc: int = 0
    clock_ns: int = 1_000_000_000
    tail_calls: int = 0
    # of each bpf_throw() of the run that is going on, or of the last one
    cookies: list[int] = field(default_factory=list)
    # what the frames hold, and what a throw left behind
    resources: Resources = field(init=False)
    # what bpf_obj_new() made
    objects: Objects = field(init=False)
    # what bpf_iter_bits iterators go through, by address of the iterator
    bits: dict[int, int] = field(default_factory=dict)
    random: Random = field(default_factory=Random)
    # what executes instructions
    engine: Engine = reference.prepare
    _programs: dict[str, Program] = field(default_factory=dict)
    _code: dict[str, Code] = field(default_factory=dict)
    # address of a function given to a helper -> what it is
    _functions: dict[int, tuple[Program, LinkedFunction]] = field(default_factory=dict)
    _addresses: dict[tuple[str, str], int] = field(default_factory=dict)
    attached: Attached = field(default_factory=Attached)
    # what an engine shares between the programs of this machine
    shared: Any = None
    caller = calls.caller

    def __post_init__(self) -> None:
        allow_depth()
        self.random.seed(self.seed)
        self.resources, self.objects = Resources(self, [], []), Objects(self)
        self.attached.tracing_name = self.profile.tracing_name
        self.trace.memory, self.trace.machine = self.memory, self
        for definition in self.obj.maps:
            special = spans(self.obj.btf, definition.value_type_id)
            self.maps[definition.name] = create(definition, self.memory, self.world, special)
        self.map_by_address = fill(self.maps.values())
        for section in self.obj.sections:
            region = self.memory.region(section.name, bytearray(section.data))
            region.writable = not section.read_only
            self.sections[section.name] = region
        arenas.install(self)

    # ---- runs ---------------------------------------------------------------------------

    def run(self, name: str, context: Context) -> int:
        """Run a program once: its 64-bit value. Raises Fault, Unsupported."""
        program = self.begin(name, context)
        try:
            result = self._enter(program, program.functions[0], [context.address, *[None] * 4])
            assert result is not None  # _run_program checks it
            return result
        except RecursionError as error:  # never seen; frames end before that
            raise Unsupported("calls nest deeper than this Python allows") from error
        finally:
            self.frames.clear()

    def begin(self, name: str, context: Context) -> Program:
        """Forget the run before; the program that runs next."""
        self.context, self.tail_calls = context, 0
        self.resources.live.clear()
        self.cookies.clear()
        program = self.program(name)
        self.attached.attach(program, self.companions, self.program)
        self.trace.depth = 0
        return program

    def insert(self, program: Program) -> None:
        """Let a program that no object has be run by its name."""
        self._programs[program.name] = program

    def program(self, name: str) -> Program:
        """Linked program of this name."""
        if name not in self._programs:
            self._programs[name] = link(self.obj, name, self.environment)
        return self._programs[name]

    def adopt(self, obj: Object, name: str) -> Program:
        """A program of another object, to be attached as if it were one of ours.

        Raises ObjectError for no such program, UsageError for one that uses maps or globals: theirs
        are not here.
        """
        program = link(obj, name, self.environment)
        used = sorted({r.name for r in program.refs.values() if r.kind in _OF_THE_OBJECT})
        if used:
            raise UsageError(
                f"{obj.path}: program {name!r} uses {', '.join(used)} of its own object",
                fix="put it into the object of the program that it attaches to",
            )
        self._programs[name] = program
        return program

    def spend(self, instructions: int) -> None:
        """Take from the budget. Raises Unsupported when it is used up."""
        self.budget -= instructions
        if self.budget < 0:
            raise Unsupported("instruction budget used up")

    # ---- functions ----------------------------------------------------------------------

    def call(
        self, program: Program, callee: LinkedFunction, args: Registers, pc: int
    ) -> int | None:
        """A bpf-to-bpf call from instruction `pc`."""
        self.pc = pc
        return self._enter(program, callee, args)

    def callback(self, address: int | None, args: list[int]) -> int:
        """A helper calls a function of the program; its value, which must be there."""
        if address not in self._functions:
            raise Fault(f"callback {value(address)} is not a function")
        program, function = self._functions[address]
        if function.linkage != "static":
            raise Fault(f"callback function not static: {function.name}")
        padded: Registers = [*args, *[None] * (5 - len(args))]
        result = self._frame(program, function, padded, CALLBACK)
        if result is None:
            raise Fault(f"callback {function.name} returns nothing")
        return result

    def _enter(self, program: Program, function: LinkedFunction, args: Registers) -> int | None:
        """Call a function as its callers do: through what replaces or watches it."""
        watching = self.attached.on(program, function)
        if self.resources.live and function.linkage == "global" and self.frames:
            self.resources.check_call(function)
        if not watching and function is not program.functions[0]:
            return self._frame(program, function, args, SUBPROGRAM)
        replaced = next((c for c in watching if c.kind == "freplace"), None)
        if replaced is not None:
            self.trace.replace(function.name, replaced.program, "freplace")
            extension = self.program(replaced.program)
            return self._enter(extension, extension.functions[0], args)
        for companion in watching:
            if companion.kind == "fentry":
                self._watch(companion, args[: self._arity(function)], self._arity(function))
        if function is program.functions[0]:
            result: int | None = self._run_program(program, args)
        else:
            result = self._frame(program, function, args, SUBPROGRAM)
        for companion in watching:
            if companion.kind == "fexit":
                count = self._arity(function)
                self._watch(companion, [*args[:count], result], count)
        return result

    def _watch(self, companion: Companion, values: list[int | None], count: int) -> None:
        """Run a tracing program; `count` of the values are arguments."""
        region = tracing(self.memory, values)
        self.recorder.watched[region.key] = count, len(values) > count
        try:
            self._run_program(self.program(companion.program), [region.address, *[None] * 4])
        finally:
            del self.recorder.watched[region.key]
            self.memory.release(region)

    def _arity(self, function: LinkedFunction) -> int:
        found = self.obj.btf.find(Kind.FUNC, function.name)
        return len(self.obj.btf.type(found.type_id).members) if found else 1

    def _run_program(self, program: Program, args: Registers) -> int:
        """Run a program: the boundary where a throw ends."""
        depth, indent = len(self.frames), self.trace.depth
        try:
            result = self._frame(program, program.functions[0], args, PROGRAM)
        except Throw as thrown:
            self.trace.depth = indent
            result = self.handle(program, thrown.cookie)
        del self.frames[depth:]
        if result is None:
            raise Fault(f"R0 of {program.name} is not initialised at exit")
        return result

    def handle(self, program: Program, cookie: int) -> int | None:
        """The callback in place of the program: R1 is the cookie, nothing else is there."""
        if program.exception_callback is not None:
            function = program.functions[program.exception_callback]
            return self._frame(program, function, [cookie, *[None] * 4], EXCEPTION_CALLBACK)
        result = cookie if self.profile.default_returns_cookie else 0
        self.trace.default_callback(cookie, result)
        return result

    def _frame(
        self, program: Program, function: LinkedFunction, args: Registers, kind: str
    ) -> int | None:
        """Run one function in a frame of its own; a tail call puts a program in its place."""
        stack = self.memory.stack("stack of " + function.name, self.budget)
        registers: Registers = [None, *args, *[None] * 4, stack.address + STACK_BYTES]
        self.frames.append(Frame(program, function, kind, stack, registers))
        target: TailCall | None = None
        try:
            check_depth(self.frames, self.profile)
            if self.trace.on:
                self.trace.enter(self.frames[-1], args[: self._arity(function)])
            result: int | None = self.code(program).run(function, registers)
            if self.resources.live:
                self.resources.check_return(len(self.frames) - 1)
            if self.trace.on:
                self.trace.leave(result)
        except Throw:
            unwind.leave(self)
            self.trace.vanish(self.frames[-1])
            raise
        except TailCall as tail:
            self.trace.replace(function.name, tail.program.name, "tail call")
            target = tail
        finally:
            self.memory.end_stack(stack)
            self.frames.pop()
        if target is not None:
            result = self._run_program(target.program, [target.context, *[None] * 4])
            self.trace.leave(result)
        return result

    def replaced(self, tail: TailCall) -> int:
        """Run the target of a tail call in place of a frame that an engine ended."""
        return self._run_program(tail.program, [tail.context, *[None] * 4])

    def code(self, program: Program) -> Code:
        """A program as the engine executes it. Raises Fault for code that leaves a function.

        Only the reference engine shows a cleanup the registers of all frames, and knows arenas.
        """
        if program.name not in self._code:
            slow = self.profile.releases_at_throw or arenas.concerns(self, program)
            self._code[program.name] = (reference.prepare if slow else self.engine)(self, program)
        return self._code[program.name]

    def engines(self) -> str:
        """Names of the engines that executed programs."""
        return ", ".join(sorted({code.engine for code in self._code.values()}))

    def frames_left(self) -> int:
        """Frames of static subprograms that the running function may nest."""
        return frames_left(self.frames, self.profile)

    def locate(self, error: Fault | Unsupported, program: Program, pc: int) -> Fault | Unsupported:
        """Put the place where it came up into an error's words, once."""
        if not error.located:
            error.args = (located(program, pc, str(error)),)
            error.located = True
            self.trace.faulted = place(program, pc)
        return error

    # ---- what instructions refer to -------------------------------------------------------

    def helper(self, number: int) -> Callable[[Registers], int | None]:
        """Implementation of a helper; an unknown one is only an error when it is reached."""
        if absent.is_poison(number):
            return absent.bind(self, number)
        return helpers.bind(self, number)

    def kfunc(self, ref: Ref) -> Callable[[Registers], int | None]:
        """Implementation of a kernel function."""
        return kfuncs.bind(self, ref.name)

    def address_of(self, program: Program, ref: Ref) -> int:
        """Value that a relocated LD_IMM64 loads. Raises Unsupported for unknown externs."""
        if ref.kind is RefKind.MAP:
            return int(self.maps[ref.name].place.handle.address)
        if ref.kind is RefKind.GLOBAL:
            return self._section(program, ref.name).address + ref.offset
        if ref.kind is RefKind.FUNCTION:
            return self._function_address(program, ref.offset)
        if ("", ref.name) not in self._addresses:
            self._addresses["", ref.name] = self._kernel_symbol(ref).address
        return self._addresses["", ref.name]

    def _section(self, program: Program, name: str) -> Region:
        if name == KCONFIG and name not in self.sections:
            region = self.memory.region(name, bytearray(program.kconfig))
            region.writable = False
            self.sections[name] = region
        if name not in self.sections:
            return arenas.globals_of(self, name)
        return self.sections[name]

    def _kernel_symbol(self, ref: Ref) -> Region:
        types = self.environment.btf
        if types is not None and ref.btf_id and types.kind(ref.btf_id) is Kind.VAR:
            return absent.variable(self, ref.name, types, ref.btf_id)
        if ref.btf_id or kfuncs.exists(ref.name, self.profile):
            return self.memory.region(f"kernel function {ref.name}", bytearray())
        raise Unsupported(f"extern {ref.name}")

    def _function_address(self, program: Program, start: int) -> int:
        key, function = (program.name, str(start)), program.function_at(start)
        if key not in self._addresses:
            address = self.memory.region(f"function {function.name}", bytearray()).address
            self._addresses[key], self._functions[address] = address, (program, function)
        return self._addresses[key]

    def map_at(self, address: int) -> Map:
        """The map whose address a helper got. Raises Fault, Unsupported."""
        found = self.map_by_address.get(address)
        if found is None:
            check(self.maps.values(), address)
            raise Fault(f"{value(address)} is not a map")
        return found

    # ---- throw and tail call --------------------------------------------------------------

    def throw(self, cookie: int) -> None:
        """bpf_throw(): never returns."""
        boundary = unwind.boundary(self.frames)
        self.cookies.append(cookie)
        self.trace.throw(cookie)
        if self.resources.live and not self.profile.releases_at_throw:
            self.resources.check_throw(boundary)
        raise Throw(cookie)

    def tail_call(self, context: int, program_name: str | None) -> None:
        """bpf_tail_call(): returns only when there is no target or the limit is reached."""
        if program_name is None or self.tail_calls >= MAX_TAIL_CALLS:
            return
        if self.frames[-1].kind in (CALLBACK, EXCEPTION_CALLBACK):
            raise Fault(f"bpf_tail_call from {self.frames[-1].kind}")
        self.resources.check_tail_call()
        self.tail_calls += 1
        raise TailCall(self.program(program_name), context)

    # ---- words ----------------------------------------------------------------------------

    def line(self, program: Program, pc: int) -> str:
        """File and line of an instruction, "" where the object does not say."""
        return found.short if (found := place(program, pc)) else ""
