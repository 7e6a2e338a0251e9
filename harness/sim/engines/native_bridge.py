# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The Python side of native code: the shared memory of one machine, and what native code asks for.

Owns that both sides see the same machine. Before Python does anything for native code, the live
native frames become frames and stacks of the machine; afterwards the region table is held against
the regions again. What goes wrong is kept here while native code unwinds, and raised by the entry.
"""

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.bpf.isa import registers_read
from harness.bpf.link import Program
from harness.sim import unwind
from harness.sim.alu import M32, M64, signed
from harness.sim.engines import Step
from harness.sim.engines import native_layout as at
from harness.sim.engines.reference_insns import make_step
from harness.sim.frames import EXCEPTION_CALLBACK, PROGRAM, SUBPROGRAM, Frame
from harness.sim.memory import STACK_BYTES, Region
from harness.sim.signals import EndFunction, Fault, TailCall, Throw, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.sim.machine import Machine

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, *[ctypes.c_uint64] * 4)
# more regions in the table than this are forgotten rather than held against the memory
_MAX_CHECKED = 12


@dataclass(frozen=True, slots=True)
class _Cached:
    """One entry of the region table: the region as it was."""

    region: Region
    data: bytearray
    bounds: tuple[int, int]
    writable: bool
    # keeps the bytes where they are
    export: Any


class Bridge:
    """Shared memory and callbacks of one machine."""

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.programs: list[Program] = []
        # what ended native code: raised by who entered it
        self.error: BaseException | None = None
        self.block = bytearray(at.BLOCK_BYTES)
        self.cells = memoryview(self.block).cast("Q")
        self.address = host_address(self.block)[0]
        self._halves = memoryview(self.block).cast("I")
        self._cached: dict[int, _Cached] = {}
        self._steps: dict[int, Step] = {}
        self._outside: dict[int, Callable[[list[Any]], int | None]] = {}
        # index in machine.frames, plus one, of the frame by which native code was entered last
        self.entered = 0
        # whether a throw of the running frame ends at a program
        self.throws = False
        # index -> number of the function that the frame was made for, and the frame
        self._frames: list[tuple[int, Any]] = [(-1, None)] * at.RECORD_COUNT
        self._stacks = [_stack() for _ in range(at.RECORD_COUNT)]
        self._exports = [
            (*host_address(stack.data), *host_address(stack.shadow or bytearray()))
            for stack in self._stacks
        ]
        for index in range(at.RECORD_COUNT):
            self.own_stack(index)
        self.cells[at.CONTEXT // 8] = at.NO_CONTEXT
        # told before anything else what native code asks for: (what, first operand)
        self.before: Callable[[int, int], None] | None = None
        self._callback = _CALLBACK(self._called)  # lives as long as native code may use it
        pointer = ctypes.cast(self._callback, ctypes.c_void_p).value
        assert pointer is not None  # of a function
        self.cells[at.CALLBACK // 8] = pointer
        self._handlers = {
            at.LOAD: self._load, at.STORE: self._store, at.OUTSIDE: self._call_outside,
            at.STEP: self._step, at.ADDRESS: self._address_of, at.CALL: self._call,
            at.REPLACE: self._replace, at.RETURN: self._return,
        }  # fmt: skip

    # ---- frames ---------------------------------------------------------------------------

    def own_stack(self, index: int) -> None:
        """Let the frame with this index live in memory of the bridge."""
        record = (at.RECORDS + index * at.RECORD_BYTES) // 8
        data, _, shadow, _ = self._exports[index]
        self.cells[record + at.RECORD_DATA // 8] = data
        self.cells[record + at.RECORD_SHADOW // 8] = shadow

    def lend_stack(self, index: int, stack: Region) -> Any:
        """Let the frame with this index live in a region; keep the result while it does."""
        record = (at.RECORDS + index * at.RECORD_BYTES) // 8
        assert stack.shadow is not None  # of a frame
        data, one = host_address(stack.data)
        shadow, two = host_address(stack.shadow)
        self.cells[record + at.RECORD_DATA // 8] = data
        self.cells[record + at.RECORD_SHADOW // 8] = shadow
        return one, two

    def show_frames(self) -> list[int]:
        """Make frames of the machine of the native ones; keys of their stacks."""
        cells, first, shown = self.cells, self.entered + 1, []
        frames, regions = self.machine.frames, self.machine.memory.regions
        for index in range(first, (cells[at.DEPTH // 8] >> at.LIVE_SHIFT) + 1):
            record = (at.RECORDS + index * at.RECORD_BYTES) // 8
            address, number = cells[record], cells[record + at.RECORD_FUNCTION // 8]
            known, frame = self._frames[index]
            if known != number:
                frame = self._frame(index, number)
                self._frames[index] = (number, frame)
            if index == 1:  # of a batch, where no machine made the frame
                frame.kind = EXCEPTION_CALLBACK if cells[at.STAGE // 8] else PROGRAM
            frame.stack.name = "stack of " + frame.function.name
            frame.stack.address = address
            frame.registers[10] = address + STACK_BYTES
            regions[address >> 32] = frame.stack
            shown.append(address >> 32)
            frames.append(frame)
        return shown

    def _frame(self, index: int, number: int) -> Frame:
        program = self.programs[number >> 32]
        function = program.functions[number & M32]
        return Frame(program, function, SUBPROGRAM, self._stacks[index], [None] * 11)

    def hide_frames(self, shown: list[int]) -> None:
        """The inverse of show_frames."""
        for key in shown:
            self.machine.memory.regions.pop(key, None)
        if shown:
            del self.machine.frames[-len(shown) :]

    # ---- what native code asks for --------------------------------------------------------

    def _called(self, what: int, site: int, a: int, b: int, c: int) -> int:
        """The callback: a status. Nothing may leave it but that."""
        machine, cells = self.machine, self.cells
        depth = cells[at.DEPTH // 8]
        machine.budget = signed(cells[at.BUDGET // 8])
        shown: list[int] = []
        try:
            if self.before is not None:
                self.before(what, a)
            shown = self.show_frames()
            return self._handlers[what](site, a, b, c)
        except (Fault, Unsupported) as error:
            program = self.programs[site >> 32]
            self.error = machine.locate(error, program, site & M32)
            return at.RAISED
        except Throw as error:
            self.error = error
            cells[at.VALUE // 8] = error.cookie
            return at.THROWN
        except TailCall as error:
            self.error = error
            return at.REPLACED
        except EndFunction:
            return at.ENDED
        except BaseException as error:  # noqa: BLE001  # raised again by whoever entered
            self.error = error
            return at.RAISED
        finally:
            self.hide_frames(shown)
            cells[at.DEPTH // 8] = depth
            self.refresh()

    def refresh(self) -> None:
        """Give native code what Python may have changed."""
        machine, cells = self.machine, self.cells
        cells[at.BUDGET // 8] = machine.budget & M64
        cells[at.HELD // 8] = held = bool(machine.resources.live)
        cells[at.FAST_THROW // 8] = self.throws and not held
        self._check_table()

    def may_throw(self) -> None:
        """Find out whether the frames of the machine allow a throw."""
        try:
            unwind.boundary(self.machine.frames)
        except Fault:
            self.throws = False
        else:
            self.throws = not self.machine.trace.on

    def _give(self, value: int | None) -> int:
        self.cells[at.KNOWN // 8] = value is not None
        self.cells[at.VALUE // 8] = 0 if value is None else value & M64
        return at.OK

    def _load(self, _site: int, address: int, size: int, _c: int) -> int:
        value = self.machine.memory.load(address, size)
        self._remember(address)
        return self._give(value)

    def _store(self, _site: int, address: int, size: int, value: int) -> int:
        self.machine.memory.store(address, size, value)
        self._remember(address)
        return at.OK

    def _call_outside(self, site: int, full: int, _b: int, _c: int) -> int:
        function = self._outside.get(site)
        machine, pc = self.machine, site & M32
        if function is None:
            program = self.programs[site >> 32]
            insn = program.insns[pc]
            bound = machine.kfunc(program.refs[pc]) if insn.src else machine.helper(insn.imm)
            function = self._outside[site] = bound
        machine.pc = pc
        return self._give(function(self._arguments(full)))

    def _arguments(self, full: int) -> list[int | None]:
        first = at.REGISTERS // 8 + 1
        values = self.cells[first : first + 5].tolist()
        return [value if full >> i & 1 else None for i, value in enumerate(values)]

    def _step(self, site: int, full: int, _b: int, _c: int) -> int:
        """Let the reference interpreter do one instruction on all registers."""
        program, pc, first = self.programs[site >> 32], site & M32, at.REGISTERS // 8
        step = self._steps.get(site)
        if step is None:
            step = self._steps[site] = make_step(self.machine, program, pc)
        values = self.cells[first : first + 11].tolist()
        registers = [value if full >> i & 1 else None for i, value in enumerate(values)]
        try:
            step(registers)
        except TypeError:
            self._empty(program, pc, registers)
            raise
        known = 0
        for index, value in enumerate(registers):
            self.cells[first + index] = 0 if value is None else value & M64
            known |= (value is not None) << index
        self.cells[at.KNOWN // 8] = known
        return at.OK

    def _empty(self, program: Program, pc: int, registers: list[Any]) -> None:
        for register in registers_read(program.insns[pc]):
            if registers[register] is None:
                raise Fault(f"R{register} is not initialised") from None

    def _address_of(self, site: int, _a: int, _b: int, _c: int) -> int:
        """What an LD_IMM64 loads whose value is made when it is first reached."""
        program, pc = self.programs[site >> 32], site & M32
        registers: list[Any] = [None] * 11
        make_step(self.machine, program, pc)(registers)
        return self._give(registers[program.insns[pc].dst])

    def _call(self, site: int, full: int, callee: int, _c: int) -> int:
        program = self.programs[site >> 32]
        function = program.functions[callee]
        return self._give(self.machine.call(program, function, self._arguments(full), site & M32))

    def _replace(self, _site: int, _a: int, _b: int, _c: int) -> int:
        """A tail call ended a subprogram: its target gives the value of the call."""
        tail, self.error = self.error, None
        assert isinstance(tail, TailCall)  # by the status
        return self._give(self.machine.replaced(tail))

    def _return(self, _site: int, _a: int, _b: int, _c: int) -> int:
        """A subprogram returns while something is held."""
        self.machine.resources.check_return(len(self.machine.frames) - 1)
        return at.OK

    # ---- region table ---------------------------------------------------------------------

    def _remember(self, address: int) -> None:
        """Let native code use a region by itself, where it is plain memory."""
        region = self.machine.memory.regions.get(address >> 32)
        if region is None or region.shadow is not None or region.load is not None:
            return
        slot = region.key % at.TABLE_ENTRIES
        self.forget(slot)
        host, export = host_address(region.data)
        entry = (at.TABLE + slot * at.ENTRY_BYTES) // 8
        self.cells[entry] = region.address + region.low
        self.cells[entry + at.ENTRY_HOST // 8] = host + region.low
        span, stores = region.high - region.low, region.writable and region.store is None
        for index, size in enumerate((1, 2, 4, 8)):
            limit = min(max(span - size + 1, 0), M32)
            self._halves[2 * entry + at.ENTRY_LOADS // 4 + index] = limit
            self._halves[2 * entry + at.ENTRY_STORES // 4 + index] = limit if stores else 0
        bounds = (region.low, region.high)
        self._cached[slot] = _Cached(region, region.data, bounds, region.writable, export)

    def forget(self, slot: int) -> None:
        """Empty an entry of the table."""
        if self._cached.pop(slot, None) is not None:
            start = at.TABLE + slot * at.ENTRY_BYTES
            self.block[start : start + at.ENTRY_BYTES] = bytes(at.ENTRY_BYTES)

    def _check_table(self) -> None:
        """Forget the regions that ended, moved or changed their bounds."""
        if len(self._cached) > _MAX_CHECKED:
            for slot in list(self._cached):
                self.forget(slot)
        regions = self.machine.memory.regions
        stale = [
            slot
            for slot, known in self._cached.items()
            if regions.get(known.region.address >> 32) is not known.region
            or known.region.data is not known.data
            or (known.region.low, known.region.high) != known.bounds
            or known.region.writable is not known.writable
        ]
        for slot in stale:
            self.forget(slot)


def _stack() -> Region:
    made = Region("", 0, bytearray(STACK_BYTES))
    made.shadow = bytearray(STACK_BYTES)
    return made


def host_address(data: bytearray) -> tuple[int, Any]:
    """Where the bytes are, and what keeps them there."""
    export = (ctypes.c_char * len(data)).from_buffer(data)
    return ctypes.addressof(export), export
