# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Batches of packets on native code: harness.sim.batch.Runner.

Owns what Python adds to the loop of harness.sim.engines.native_loop. The loop keeps context and
packet in memory of its own; the first time that a run needs Python for more than plain memory, the
machine gets a real context and packet with the same addresses, and Python finishes that run. The
answers are those of harness.sim.replay.PacketRunner.
"""

import ctypes
from array import array
from typing import TYPE_CHECKING, Any

from harness.model import Case, Input
from harness.sim import context
from harness.sim.alu import signed
from harness.sim.batch import Batch, Outcomes, Records
from harness.sim.context import Context
from harness.sim.engines import Declined
from harness.sim.engines import native_layout as at
from harness.sim.engines.native_bridge import Bridge, host_address
from harness.sim.engines.native_fields import Fields, fields_of
from harness.sim.engines.native_records import records
from harness.sim.replay import PacketRunner, frame_after
from harness.sim.signals import Fault, TailCall, Throw, Unsupported

if TYPE_CHECKING:
    from harness.sim.engines.native import NativeCode
    from harness.sim.machine import Machine

_U32 = 0xFFFF_FFFF
_ONE_FRAME = (1 << at.LIVE_SHIFT) + 1
_R1 = 1 << 1


class NativeRunner:
    """Runs batches of packets; what native code cannot do for a packet, PacketRunner does.

    Raises Declined for a program whose packets all need Python: something sits on it, or it
    takes more than a context.
    """

    engine = "native"

    def __init__(self, machine: "Machine", case: Case, code: "NativeCode") -> None:
        self._machine = machine
        self._case = case
        self._code = code
        self._bridge: Bridge = code.bridge
        self._budget = machine.budget
        self._slow = PacketRunner(machine, case, self.engine)
        machine.begin(case.program, Context(0))
        program = machine.program(case.program)
        main = code.facts[0]
        handler = program.exception_callback
        taken = [main] if handler is None else [main, code.facts[handler]]
        if machine.attached.on(program, main.function):
            raise Declined(f"a companion sits on {program.name}")
        if any(facts.needs & ~_R1 for facts in taken):
            raise Declined(f"{program.name} takes more than a context")
        self._fields: Fields = fields_of(machine, case)
        self._buffer = bytearray(self._fields.headroom_bytes + self._fields.longest + 8)
        self._keep = host_address(self._buffer)
        self._loop = code.loop()
        self.records: Records | None = records
        self.compile_s = code.compile_s
        # address of the region that the machine makes next, for which the addresses are set
        self._base = 0
        # of the packet that Python has a part in
        self._index = 0
        self._batch = Batch()
        self._given: Context | None = None

    def __call__(self, batch: Batch, *, frames: bool) -> Outcomes:
        """Run each packet of a batch. See harness.sim.batch.Runner."""
        count = len(batch)
        seen = Outcomes(
            array("Q", bytes(8 * count)), bytearray(count), array("Q", bytes(8 * count)),
            frames=[] if frames else None,
        )  # fmt: skip
        self._batch = batch
        lent = self._lend(batch, seen)
        done = 0
        try:
            while done < count:
                done = self._some(done, done + 1 if frames else count, seen)
        except KeyboardInterrupt:
            seen.interrupted, done = True, self._bridge.cells[at.INDEX // 8]
        finally:
            self._bridge.before = None
            self._bridge.cells[at.CONTEXT // 8] = at.NO_CONTEXT
            self._forget_packet()
            self._machine.frames.clear()
            del lent
        if seen.interrupted:
            del seen.retvals[done:], seen.threw[done:], seen.cookies[done:]
        return seen

    def _lend(self, batch: Batch, seen: Outcomes) -> Any:
        """Tell native code where everything is; keep the result while it runs."""
        bridge, fields, machine = self._bridge, self._fields, self._machine
        cells, threw = bridge.cells, host_address(seen.threw) if seen.threw else (0, None)
        data = ctypes.c_char_p(bytes(batch.data))
        pointer = ctypes.cast(data, ctypes.c_void_p).value or 0
        for cell, value in (
            (at.DATA, pointer),
            (at.OFFSETS, batch.offsets.buffer_info()[0]),
            (at.LENGTHS, batch.lengths.buffer_info()[0]),
            (at.RETVALS, seen.retvals.buffer_info()[0]),
            (at.THREW, threw[0]),
            (at.COOKIES, seen.cookies.buffer_info()[0]),
            (at.SHORTEST, fields.shortest),
            (at.LONGEST, fields.longest),
            (at.HIDDEN, fields.hidden_bytes),
            (at.STRIPS, fields.strips_tags),
            (at.PACKET_HOST, self._keep[0] + fields.headroom_bytes),
            (at.END_SLOT, fields.end_slot),
            (at.LENGTH_SLOT, fields.length_slot),
            (at.PROTOCOL_SLOT, fields.protocol_slot),
            (at.RUN_BUDGET, self._budget),
            (at.FLOOR, 1),
        ):
            cells[cell // 8] = value
        for slot in range(at.SLOT_COUNT):
            cells[at.VALID // 8 + slot] = slot in fields.values
            cells[at.SLOTS // 8 + slot] = fields.values.get(slot, 0)
        self._base = 0
        self._settle()
        bridge.entered = 0
        bridge.own_stack(1)
        bridge.before = self._before
        machine.budget = self._budget
        bridge.refresh()
        return data, threw

    def _settle(self) -> None:
        """Let context and packet of the next run have the numbers that the machine would give."""
        base, cells, fields = self._machine.memory.upcoming(), self._bridge.cells, self._fields
        if base == self._base:
            return
        self._base, packet = base, base + fields.packet
        cells[at.RUN_CONTEXT // 8] = base + fields.context
        cells[at.PACKET // 8] = packet + fields.headroom_bytes
        entry = (packet >> 32) % at.TABLE_ENTRIES * at.ENTRY_BYTES
        cells[at.PACKET_ENTRY // 8] = at.TABLE + entry
        for slot in fields.pointers:
            cells[at.SLOTS // 8 + slot] = fields.values[slot] + packet

    def _some(self, start: int, end: int, seen: Outcomes) -> int:
        """Run packets from `start` on until one needs Python; the index behind the last one."""
        cells, fields = self._bridge.cells, self._fields
        cells[at.INDEX // 8], cells[at.COUNT // 8], self._index = start, end, -1
        reason = self._loop(self._bridge.address)
        index = cells[at.INDEX // 8]
        if reason == at.DONE:
            if seen.frames is not None:
                first = fields.headroom_bytes
                before = self._batch.packet(start)
                size = len(before) - fields.hidden_bytes
                hidden = before[: fields.hidden_bytes]
                seen.frames.append(hidden + bytes(self._buffer[first : first + size]))
            return index
        if reason == at.NOT_RUN:
            self._run_slowly(index, seen)
        else:
            self._finish(index, seen)
        return index + 1

    def _run_slowly(self, index: int, seen: Outcomes) -> None:
        """A packet that is no packet for native code, by the machine from its start."""
        bridge = self._bridge
        bridge.before = None
        bridge.cells[at.CONTEXT // 8] = at.NO_CONTEXT
        self._forget_packet()
        one = Batch(self._batch.packet(index), array("Q", [0]), array("Q", [self._length(index)]))
        made = self._slow(one, frames=seen.frames is not None)
        if made.interrupted:
            raise KeyboardInterrupt
        seen.retvals[index], seen.threw[index] = made.retvals[0], made.threw[0]
        seen.cookies[index] = made.cookies[0]
        if 0 in made.failures:
            seen.failures[index] = made.failures[0]
        if seen.frames is not None and made.frames:
            seen.frames.append(made.frames[0])
        self._settle()
        bridge.before = self._before
        bridge.entered, bridge.cells[at.FLOOR // 8] = 0, 1
        bridge.refresh()

    def _length(self, index: int) -> int:
        return self._batch.lengths[index]

    # ---- Python's part in a run -----------------------------------------------------------

    def _before(self, what: int, address: int) -> None:
        """Native code asks for something: from here on the machine has the context and packet."""
        cells, memory = self._bridge.cells, self._machine.memory
        if cells[at.OWNED // 8]:
            return
        self._bridge.throws = not cells[at.STAGE // 8]
        if what in (at.LOAD, at.STORE):
            region = memory.regions.get(address >> 32)
            offset = address & _U32
            plain = region is not None and region.load is None and region.store is None
            if region is not None and plain and region.low <= offset <= region.high - 8:
                return  # nothing of the packet is in it
        self._own()

    def _own(self) -> None:
        """Make the context and packet of the run, as far as it has got."""
        machine, bridge, fields = self._machine, self._bridge, self._fields
        cells, index = bridge.cells, bridge.cells[at.INDEX // 8]
        cells[at.OWNED // 8], cells[at.CONTEXT // 8] = 1, at.NO_CONTEXT
        packet = self._batch.packet(index)
        given = context.build(
            machine.program_type, self._case.hook, Input(packet=packet), machine.memory,
            machine.profile,
        )  # fmt: skip
        assert given.packet is not None  # of these program types
        assert given.address == cells[at.RUN_CONTEXT // 8]
        assert given.packet.region.address + fields.headroom_bytes == cells[at.PACKET // 8]
        machine.begin(self._case.program, given)
        if cells[at.STAGE // 8]:
            machine.cookies.append(self._seen_cookie(index))
        first, size = fields.headroom_bytes, given.packet.end - given.packet.start
        given.packet.region.data[given.packet.start : given.packet.end] = self._buffer[
            first : first + size
        ]
        self._forget_packet()
        self._given = given

    def _forget_packet(self) -> None:
        """Take the packet of the loop out of the region table."""
        entry = self._bridge.cells[at.PACKET_ENTRY // 8]
        self._bridge.forget((entry - at.TABLE) // at.ENTRY_BYTES)
        self._bridge.block[entry : entry + at.ENTRY_BYTES] = bytes(at.ENTRY_BYTES)

    def _seen_cookie(self, index: int) -> int:
        return ctypes.c_uint64.from_address(self._bridge.cells[at.COOKIES // 8] + 8 * index).value

    def _finish(self, index: int, seen: Outcomes) -> None:
        """End a run in which Python had a part, or which went wrong."""
        machine, bridge = self._machine, self._bridge
        machine.budget = signed(bridge.cells[at.BUDGET // 8])
        if not bridge.cells[at.OWNED // 8]:
            self._own()
        given, packet = self._given, self._batch.packet(index)
        assert given is not None  # by _own()
        assert given.packet is not None  # of these program types
        retval = 0
        try:
            retval = self._value() & _U32
        except Fault as error:
            seen.failures[index] = f"simulator fault: {error}"
        except Unsupported as error:
            seen.failures[index] = f"unsupported: {error}"
        finally:
            bridge.error = None
            machine.frames.clear()
        seen.retvals[index] = retval
        seen.threw[index] = min(len(machine.cookies), 1)
        seen.cookies[index] = machine.cookies[-1] if machine.cookies else 0
        if seen.frames is not None:
            seen.frames.append(b"" if index in seen.failures else frame_after(given, packet))
        for address in (given.address, given.packet.region.address):
            bridge.forget((address >> 32) % at.TABLE_ENTRIES)
            machine.memory.regions.pop(address >> 32, None)
        machine.memory.rewind()
        self._settle()
        self._given = None
        machine.budget = self._budget
        bridge.entered, bridge.cells[at.FLOOR // 8] = 0, 1
        bridge.refresh()

    def _value(self) -> int:
        """What the run gives, as Machine._run_program() says."""
        machine, bridge = self._machine, self._bridge
        status, stage = bridge.cells[at.STATUS // 8], bridge.cells[at.STAGE // 8]
        program = machine.program(self._case.program)
        result: int | None = None
        error = bridge.error
        if status in (at.OK, at.EMPTY):
            self._check_return()
            result = bridge.cells[at.RESULT // 8] if status == at.OK else None
        elif not stage and status == at.THROWN:
            if not isinstance(error, Throw):
                machine.cookies.append(bridge.cells[at.VALUE // 8])
            bridge.error = None
            result = machine.handle(program, bridge.cells[at.VALUE // 8])
        elif not stage and isinstance(error, TailCall):
            bridge.error = None
            result = machine.replaced(error)
        else:
            raise self._code.ended(status)
        if result is None:
            raise Fault(f"R0 of {program.name} is not initialised at exit")
        return result

    def _check_return(self) -> None:
        """The program or its callback returns: nothing may be held."""
        if not self._machine.resources.live:
            return
        bridge = self._bridge
        bridge.cells[at.DEPTH // 8] = _ONE_FRAME
        shown = bridge.show_frames()
        try:
            self._machine.resources.check_return(0)
        finally:
            bridge.hide_frames(shown)
