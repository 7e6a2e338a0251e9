# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The native engine: a linked program as machine code, by llvmlite (`pip install bpfthrow[jit]`).

Owns compiling, what it costs, and the way in. All checks, the budget and the words of every fault
are those of the reference interpreter; what is not worth machine code goes through Python, one
instruction or one call at a time. Declined are machines that trace, those of the profile
`cleanup`, which looks into registers, programs with arguments in r11, hosts that are big endian.
"""

import ctypes
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.bpf import isa, opcodes
from harness.bpf.link import LinkedFunction, Program, RefKind
from harness.sim import helpers, kfuncs
from harness.sim.alu import M32, M64, signed
from harness.sim.engines import Declined, Registers
from harness.sim.engines import native_layout as at
from harness.sim.engines.native_bridge import Bridge
from harness.sim.engines.native_emit import Function, Unit
from harness.sim.engines.native_facts import Facts, analyse
from harness.sim.engines.native_loop import loop
from harness.sim.engines.native_text import Text, prelude
from harness.sim.engines.reference import ReferenceCode
from harness.sim.frames import EXCEPTION_CALLBACK, PROGRAM, SUBPROGRAM, Frame, check_depth
from harness.sim.mapkinds import arenas
from harness.sim.signals import Fault, Throw, Unsupported
from harness.sim.structure import check_for

if TYPE_CHECKING:
    from harness.sim.machine import Machine

try:
    import llvmlite.binding as llvm
except ImportError:
    llvm = None

# effort of LLVM: 0 makes a program run soon, 2 makes it run fast
QUICK, FULL = 0, 2
_MAX_MODULES = 64


@dataclass(frozen=True, slots=True)
class Module:
    """Machine code of one text of IR."""

    # keeps the code in memory
    engine: Any
    # seconds that LLVM took
    compile_s: float

    def function(self, name: str, *arguments: Any) -> Any:
        """A function by its name, as ctypes calls it; its result is an int64."""
        address = self.engine.get_function_address(name)
        return ctypes.CFUNCTYPE(ctypes.c_int64, *arguments)(address)


_modules: OrderedDict[tuple[int, str], Module] = OrderedDict()


def compile_text(text: str, level: int) -> Module:
    """Machine code of a module; the last 64 are kept, as most machines run the same objects."""
    key = (level, text)
    if key not in _modules:
        _modules[key] = _compile(text, level)
        if len(_modules) > _MAX_MODULES:
            _modules.popitem(last=False)
    _modules.move_to_end(key)
    return _modules[key]


def forget_compiled() -> None:
    """Let go of all machine code that is not in use, for who measures compiling."""
    _modules.clear()


def _compile(text: str, level: int) -> Module:
    started = time.perf_counter()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), opt=level, codemodel="jitdefault"
    )
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    builder = llvm.create_pass_builder(target, options)
    passes = builder.getModulePassManager() if level else _quick_passes()
    passes.run(module, builder)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    return Module(engine, time.perf_counter() - started)


def _quick_passes() -> Any:
    """Of all passes those that make the code smaller: the code generator takes most of the time."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    return passes


class NativeCode:
    """A program as machine code, for one machine."""

    engine = "native"

    def __init__(
        self, machine: "Machine", program: Program, bridge: Bridge, level: int | None
    ) -> None:
        started = time.perf_counter()
        self._machine = machine
        self._program = program
        self.bridge = bridge
        self.number = len(bridge.programs)
        bridge.programs.append(program)
        self.facts = analyse(program, self._arguments)
        loops = any(facts.looping for facts in self.facts)
        self.level = level if level is not None else FULL if loops else QUICK
        self._needs = {facts.function.start: facts.needs for facts in self.facts}
        self._reference: ReferenceCode | None = None
        # functions that companions sit on -> the code, made for them
        self._made: dict[frozenset[int], dict[int, Any]] = {}
        self._keep: list[Module] = []
        self.compile_s = time.perf_counter() - started

    def run(self, function: LinkedFunction, registers: Registers) -> int | None:
        """Execute a function: R0, or None. See harness.sim.engines.Code."""
        machine, bridge = self._machine, self.bridge
        full = sum((registers[i] is not None) << i for i in range(1, 6))
        watched = machine.trace.on or machine.trace.every_instruction is not None
        if watched or self._needs[function.start] & ~full:
            return self._run_interpreted(function, registers)
        enter = self._entries()[function.start]
        cells, live = bridge.cells, len(machine.frames)
        outer = bridge.entered, cells[at.FLOOR // 8], cells[at.DEPTH // 8], bridge.throws
        lent = self._prepare(registers, live)
        try:
            status = enter(bridge.address)
            machine.budget = signed(cells[at.BUDGET // 8])
            if status > at.EMPTY:
                raise self.ended(status)
            return None if status else cells[at.VALUE // 8]
        finally:
            bridge.own_stack(live)
            bridge.entered, cells[at.FLOOR // 8], cells[at.DEPTH // 8], bridge.throws = outer
            del lent

    def _run_interpreted(self, function: LinkedFunction, registers: Registers) -> int | None:
        """Somebody watches, or an argument is empty that may be read: the interpreter knows."""
        if self._reference is None:
            self._reference = ReferenceCode(self._machine, self._program)
        return self._reference.run(function, registers)

    def _prepare(self, registers: Registers, live: int) -> Any:
        """Put the arguments of a run where native code finds them."""
        machine, bridge = self._machine, self.bridge
        cells, first = bridge.cells, at.REGISTERS // 8
        for index, frame in enumerate(machine.frames, 1):
            cells[(at.RECORDS + index * at.RECORD_BYTES) // 8] = frame.stack.address
        for index in range(1, 6):
            cells[first + index] = (registers[index] or 0) & M64
        cells[at.FRAME // 8] = machine.frames[-1].stack.address
        cells[at.FLOOR // 8] = bridge.entered = live
        cells[at.DEPTH // 8] = live << at.LIVE_SHIFT | self._chain()
        bridge.may_throw()
        bridge.refresh()
        return bridge.lend_stack(live, machine.frames[-1].stack)

    def _chain(self) -> int:
        """Frames that check_depth() counts."""
        count = 0
        for frame in reversed(self._machine.frames):
            count += 1
            restart = frame.function.linkage == "global"
            if frame.kind in (PROGRAM, EXCEPTION_CALLBACK) or (
                restart and self._machine.profile.frames_restart_at_global
            ):
                break
        return count

    # ---- what went wrong ------------------------------------------------------------------

    def ended(self, status: int) -> BaseException:
        """What to raise for a status that is neither OK nor EMPTY."""
        machine, bridge = self._machine, self.bridge
        error, bridge.error = bridge.error, None
        if error is not None:
            return error
        site = bridge.cells[at.EXIT_PC // 8]
        program, pc = bridge.programs[site >> 32], site & M32
        if status == at.THROWN:
            cookie = bridge.cells[at.VALUE // 8]
            machine.pc = pc
            machine.cookies.append(cookie)
            return Throw(cookie)
        why = bridge.cells[at.EXIT_KIND // 8]
        return machine.locate(self._fault(program, pc, why & 0xFF, why >> 8), program, pc)

    def _fault(self, program: Program, pc: int, kind: int, about: int) -> Fault | Unsupported:
        """The reference interpreter's error for an exit that native code only numbered."""
        try:
            if kind == at.NO_BUDGET:
                self._machine.spend(0)
            elif kind == at.TOO_DEEP:
                self._check_depth(program, pc, about)
        except (Fault, Unsupported) as error:
            return error
        if kind == at.NOT_INITIALISED:
            return Fault(f"R{about} is not initialised")
        name = program.function_at(pc).name
        return Fault(f"last insn is not an exit or jmp; function {name}")

    def _check_depth(self, program: Program, pc: int, depth: int) -> None:
        """Let check_depth() say its words about a call of native code that it would refuse."""
        callee = program.function_at(pc + 1 + program.insns[pc].imm)
        machine = self._machine
        stack = machine.memory.stack("stack of " + callee.name, machine.budget)
        local = replace(callee, linkage="static")
        chain, live = depth & at.CHAIN_MASK, depth >> at.LIVE_SHIFT
        kinds = [PROGRAM] * (live - chain + 1) + [SUBPROGRAM] * (chain - 1)
        frames = [Frame(program, local, kind, stack, []) for kind in kinds]
        machine.memory.end_stack(stack)
        check_depth(frames, machine.profile)

    # ---- making it ------------------------------------------------------------------------

    def _entries(self) -> dict[int, Any]:
        """First instruction of a function -> its code."""
        watched = self._watched()
        if watched not in self._made:
            started = time.perf_counter()
            body = self._functions(watched) + "\n\n".join(_entry(facts) for facts in self.facts)
            module = compile_text(prelude(body) + body, self.level)
            self._keep.append(module)
            self._made[watched] = {
                facts.function.start: module.function(f"enter{facts.index}", ctypes.c_void_p)
                for facts in self.facts
            }
            self.compile_s += time.perf_counter() - started
        return self._made[watched]

    def compile(self) -> None:
        """Make the code for single runs, if it is not made already."""
        self._entries()

    def _watched(self) -> frozenset[int]:
        """Functions that companions sit on."""
        on = self._machine.attached.on
        return frozenset(f.index for f in self.facts if on(self._program, f.function))

    def loop(self) -> Any:
        """The loop over a batch of packets (harness.sim.engines.native_loop), made for speed."""
        started = time.perf_counter()
        handler = self._program.exception_callback
        callback = None if handler is None else self.facts[handler]
        returns_cookie = self._machine.profile.default_returns_cookie
        body = self._functions(self._watched()) + loop(
            self.facts[0], callback, returns_cookie=returns_cookie
        )
        module = compile_text(prelude(body) + body, FULL)
        self._keep.append(module)
        self.compile_s += time.perf_counter() - started
        return module.function("batch", ctypes.c_void_p)

    def _functions(self, watched: frozenset[int]) -> str:
        unit = Unit(
            number=self.number,
            watched=watched | {0},
            constants=self._constants(),
            max_frames=self._machine.profile.max_frames,
            restarts_at_global=self._machine.profile.frames_restart_at_global,
        )
        return "\n\n".join(Function(unit, facts).written() for facts in self.facts) + "\n\n"

    def _arguments(self, pc: int) -> int:
        """How many registers the helper or kfunc that instruction `pc` calls looks at."""
        insn, ref = self._program.insns[pc], self._program.refs.get(pc)
        if insn.src == isa.HELPER_CALL:
            return helpers.arguments(insn.imm)
        return kfuncs.arguments(ref.name) if ref is not None else 0

    def _constants(self) -> dict[int, int]:
        """What LD_IMM64 loads where that is known before it runs."""
        made, insns = {}, self._program.insns
        for facts in self.facts:
            for block in facts.blocks.values():
                for pc in block.pcs:
                    ref = self._program.refs.get(pc)
                    if ref is not None and ref.kind in (RefKind.MAP, RefKind.GLOBAL):
                        made[pc] = self._machine.address_of(self._program, ref)
                    elif pc + 1 < len(insns):
                        made[pc] = (insns[pc + 1].imm & M32) << 32 | insns[pc].imm & M32
        return made


def _entry(facts: Facts) -> str:
    """The way from Python into one function."""
    text = Text()
    registers = [text.read(at.REGISTERS + 8 * register) for register in range(1, 6)]
    cells = (at.FRAME, at.DEPTH, at.BUDGET)
    given = ", ".join(f"i64 {value}" for value in (*registers, *map(text.read, cells)))
    made = text.op(f"call fastcc %r @f{facts.index}(ptr %st, {given}) noinline")
    value, budget, status = (text.op(f"extractvalue %r {made}, {i}") for i in range(3))
    threw = text.op(f"icmp eq i64 {status}, {at.THROWN}")
    kept = text.op(f"select i1 {threw}, i64 {text.read(at.VALUE)}, i64 {value}")
    text.write(at.VALUE, kept)
    text.write(at.BUDGET, budget)
    text.add(f"ret i64 {status}")
    return "\n".join([f"define i64 @enter{facts.index}(ptr %st) {{", *text.lines, "}"])


def prepare(
    machine: "Machine", program: Program, level: int | None = None, *, later: bool = False
) -> NativeCode:
    """The engine. Raises Declined (see the module's words), Fault for code that leaves a function.

    `level`: QUICK to FULL; FULL by itself for programs with loops, QUICK for others. `later`: the
    code for single runs is only made when it is first used, as batches do not need it.
    """
    check_for(machine, program)
    reason = declines(machine)
    if not reason and any(opcodes.PARAMS in (insn.dst, insn.src) for insn in program.insns):
        reason = "arguments beyond the fifth (r11)"
    if not reason and arenas.concerns(machine, program):
        reason = "arenas"
    if reason:
        raise Declined(reason)
    if machine.shared is None:
        machine.shared = Bridge(machine)
    code = NativeCode(machine, program, machine.shared, level)
    if not later:
        code.compile()
    return code


def declines(machine: "Machine") -> str:
    """Why native code does not do the programs of a machine, "" where it does."""
    if llvm is None:
        return "llvmlite is not installed: pip install 'bpfthrow[jit]'"
    if sys.byteorder != "little":
        return "the host is not little endian"
    if machine.trace.on:
        return "the run is traced"
    if machine.profile.releases_at_throw:
        return f"profile {machine.profile.name} looks for what to release in registers"
    return ""
