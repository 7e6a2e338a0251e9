# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The trace: what happened in a run, as data, and as text of at most 100 columns.

Owns the records of events, their wording and the indentation of the text (two blanks for each
live frame). Events are calls, returns, helpers, throws, vanishing frames, releases, callbacks and
results; every instruction only on request. JSON is harness.sim.tracejson's, the picture
harness.sim.picture's. Nothing is recorded while a trace is off.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.bpf import disasm
from harness.bpf.isa import registers_read
from harness.sim.memory import TAG

if TYPE_CHECKING:
    from harness.bpf.link import Program
    from harness.sim.frames import Frame
    from harness.sim.machine import Machine
    from harness.sim.memory import Memory

WIDTH = 100
MAX_EVENTS = 20_000
_LINE_COLUMN = 64
_STACK = "stack of "


class Event(StrEnum):
    """What happened."""

    RUN = "run"  # one of several runs starts
    ENTER = "enter"  # a function starts
    LEAVE = "leave"  # it returns
    REPLACE = "replace"  # a tail call, or freplace: another program in a function's place
    CALL = "call"  # a helper or kfunc was called
    THROW = "throw"
    RELEASE = "release"  # a throw gives back what a frame holds
    VANISH = "vanish"  # a throw takes a frame away
    DEFAULT = "default"  # the default exception callback
    RESULT = "result"  # the value that the consumer sees
    WIRE = "wire"  # what it means for the frame, on a live hook
    FAULT = "fault"  # why it ended without one
    INSTRUCTION = "instruction"
    NOTE = "note"


_MARKS = {
    Event.ENTER: "> ",
    Event.LEAVE: "< ",
    Event.THROW: "! ",
    Event.FAULT: "! ",
    Event.VANISH: "x ",
    Event.RELEASE: "~ ",
}
# of these the text shows the C line
_WITH_LINE = frozenset({Event.ENTER, Event.THROW})

# of these none is left out of a long trace
_KEPT = frozenset({
    Event.RUN, Event.THROW, Event.RELEASE, Event.VANISH, Event.DEFAULT, Event.RESULT, Event.WIRE,
    Event.FAULT,
})  # fmt: skip
_FRAME = frozenset({Event.ENTER, Event.LEAVE})


@dataclass(frozen=True, slots=True)
class Place:
    """An instruction and the C line that it comes from ("", 0 where that is not known)."""

    program: str
    function: str
    pc: int
    file: str = ""
    line: int = 0
    # the C line itself, without indentation
    source: str = ""

    @property
    def short(self) -> str:
        """FILE:LINE without directories, or ""."""
        return f"{self.file.rpartition('/')[2]}:{self.line}" if self.file else ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A 64-bit value (None: nothing was put there) and the words for it."""

    name: str
    number: int | None
    text: str


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One event. Fields that say nothing for its kind are empty."""

    kind: Event
    # number of live frames around it, as the text indents them
    depth: int
    # in the words of the text, without mark and line
    text: str
    # number of the frame, counted from 1 in the order of starting; 0: outside of all frames
    frame: int = 0
    # release: where it was acquired
    place: Place | None = None
    # enter: where it was called
    caller: Place | None = None
    # enter: "program", "subprogram", "callback" or "exception callback"
    role: str = ""
    # call: helper or kfunc; replace: the program; release: what is given back; wire: the action
    name: str = ""
    # arguments of enter and call, registers that an instruction reads
    values: tuple[Shown, ...] = ()
    # throw, default
    cookie: int | None = None
    # leave, call, default, result
    result: Shown | None = None
    # vanish: the frame is the program's own
    boundary: bool = False


def value(number: int | None) -> str:
    """A register's value: small numbers as such, others with their hexadecimal form."""
    if number is None:
        return "?"
    if number < 10:
        return str(number)
    if number >> 63:
        negative = number - (1 << 64)
        return f"{negative} (0x{number:x})" if negative > -(1 << 32) else f"0x{number:x}"
    return f"{number} (0x{number:x})"


def place(program: "Program", pc: int) -> Place | None:
    """Instruction `pc` of a linked program; None where it has no such instruction."""
    if not 0 <= pc < len(program.insns):
        return None
    function, line = program.function_at(pc).name, program.line_at(pc)
    if line is None:
        return Place(program.name, function, pc)
    return Place(program.name, function, pc, line.file, line.number, line.text)


def located(program: "Program", pc: int, what: str) -> str:
    """A message with the instruction, the function and the C line that it is about."""
    at = place(program, pc)
    if at is None:
        return what
    source = f" ({at.short}: {at.source})" if at.file else ""
    return f"{what}; instruction {pc} in {at.function}{source}"


def render(event: TraceEvent) -> str:
    """One event as a line of text."""
    left = "  " * min(event.depth, 24) + _MARKS.get(event.kind, "") + event.text
    line = event.place.short if event.place is not None and event.kind in _WITH_LINE else ""
    room = WIDTH - len(line) - 2 if line else WIDTH
    if len(left) > room:
        left = left[: room - 3] + "..."
    return f"{left:<{min(_LINE_COLUMN, room)}}  {line}" if line else left


@dataclass(slots=True)
class Trace:
    """Collects events; does nothing while it is off."""

    on: bool = False
    # every instruction too
    instructions: bool = False
    depth: int = 0
    events: list[TraceEvent] = field(default_factory=list)
    # told of each event, also of those that are too many to keep
    listener: Callable[[TraceEvent], None] | None = None
    # called before each instruction, on the reference engine; may raise to end the run
    watcher: "Callable[[Program, int, list[Any]], None] | None" = None
    memory: "Memory | None" = None
    machine: "Machine | None" = None
    # where a fault was noticed
    faulted: Place | None = None
    _started: int = 0
    # numbers of the live frames, outermost first, and how they started
    _open: list[int] = field(default_factory=list)
    _entered: list[TraceEvent] = field(default_factory=list)
    # frames up to this number are among the events; frame of the exception callback
    _kept_frames: int = 0
    _handler: int = -1

    def text(self) -> str:
        """All of it, one line for each event."""
        return "\n".join(render(event) for event in self.events)

    def forget(self) -> None:
        """Drop the events of the run before."""
        self.events.clear()
        self.depth, self._kept_frames, self._handler = 0, 0, -1
        self.faulted = None
        self._open.clear()
        self._entered.clear()

    @property
    def every_instruction(self) -> "Callable[[Program, int, list[Any]], None] | None":
        """What an engine must call before each instruction; None: nothing."""
        if self.watcher is not None:
            return self.watcher
        return self.instruction if self.instructions else None

    def add(self, kind: Event, text: str, **details: Any) -> None:
        """Record an event of the innermost frame; `details` are fields of TraceEvent."""
        if not self.on:
            return
        if "place" not in details:
            details["place"] = self._here()
        if "frame" not in details and 0 < self.depth <= len(self._open):
            details["frame"] = self._open[self.depth - 1]
        event = TraceEvent(kind, self.depth, text, **details)
        if kind is Event.ENTER:
            del self._entered[self.depth :]
            self._entered.append(event)
        if len(self.events) < MAX_EVENTS:
            self.events.append(event)
        else:
            self._add_beyond(event)
        if self.listener is not None:
            self.listener(event)

    def _add_beyond(self, event: TraceEvent) -> None:
        """Of events that are too many keep those of throws, and how the frames there started."""
        if len(self.events) == MAX_EVENTS:
            text = f"... more than {MAX_EVENTS} lines: from here on only throws and results"
            self.events.append(TraceEvent(Event.NOTE, 0, text))
            self._kept_frames = self._started if event.kind is not Event.ENTER else event.frame - 1
        if event.role == "exception callback":
            self._handler = event.frame
        kept = event.kind in _KEPT or (event.frame == self._handler and event.kind in _FRAME)
        if not kept or len(self.events) >= 2 * MAX_EVENTS:
            return
        for entered in self._entered[: self.depth]:
            if entered.frame > self._kept_frames:
                self.events.append(entered)
                self._kept_frames = entered.frame
        self.events.append(event)

    def say(self, text: str) -> None:
        """Record an event that has no other kind."""
        self.add(Event.NOTE, text)

    def show(self, number: int | None) -> str:
        """A value, or the name of what it points to."""
        if number is None or self.memory is None:
            return value(number)
        region = self.memory.regions.get(number >> 32)
        if region is None or number >> 56 != TAG:  # arena pointers are small numbers
            return value(number)
        offset = number & 0xFFFF_FFFF
        if region.shadow is not None and region.name.startswith(_STACK):
            return f"{region.name.removeprefix(_STACK)}.fp{offset - region.high:+d}"
        return f"&{region.name}" + (f"+{offset}" if offset else "")

    def shown(self, name: str, number: int | None) -> Shown:
        """A named value with its words."""
        return Shown(name, number, self.show(number))

    def enter(self, frame: "Frame", args: list[Any]) -> None:
        """A function starts."""
        if not self.on:
            return
        values = tuple(self.shown(f"r{i}", arg) for i, arg in enumerate(args, 1))
        note = {
            "subprogram": "" if frame.function.linkage == "static" else "  [global]",
            "exception callback": f"  [exception callback of {frame.program.name}]",
        }.get(frame.kind, f"  [{frame.kind}]")
        listed = ", ".join(f"{v.name}={v.text}" for v in values)
        self._started += 1
        del self._open[self.depth :]
        self._open.append(self._started)
        self.add(
            Event.ENTER,
            f"{frame.function.name}({listed}){note}",
            frame=self._started,
            place=place(frame.program, frame.function.start),
            caller=self._caller(frame),
            role=frame.kind,
            values=values,
        )
        self.depth += 1

    def leave(self, result: int | None) -> None:
        """The function that started last returns."""
        if not self.on:
            return
        number = self._up()
        if result is not None:
            shown = self.shown("r0", result)
            self.add(Event.LEAVE, f"= {shown.text}", frame=number, result=shown)

    def vanish(self, frame: "Frame") -> None:
        """A throw leaves this frame."""
        if not self.on:
            return
        number, own = self._up(), frame.kind == "program"
        boundary = ": the boundary, its callback takes over" if own else ""
        text = f"frame of {frame.function.name} vanishes{boundary}"
        at = place(frame.program, frame.function.start)
        self.add(Event.VANISH, text, frame=number, place=at, boundary=own)

    def call(self, name: str, args: list[Any], result: int | None, words: str) -> None:
        """A helper or kfunc was called; `words` are its outcome in the text."""
        if not self.on:
            return
        values = tuple(self.shown(f"r{i}", arg) for i, arg in enumerate(args, 1))
        listed = ", ".join(v.text for v in values)
        shown = None if result is None else self.shown("r0", result)
        self.add(Event.CALL, f"{name}({listed}){words}", name=name, values=values, result=shown)

    def throw(self, cookie: int) -> None:
        """bpf_throw() was called."""
        self.add(Event.THROW, f"bpf_throw(cookie={value(cookie)})", cookie=cookie)

    def release(self, function: str, what: str, acquired: Place | None) -> None:
        """A throw gives back what a frame holds, as `function` would; `acquired`: where it came."""
        where = f" acquired at {acquired.short}" if acquired is not None else ""
        self.add(Event.RELEASE, f"{function} releases {what}{where}", place=acquired, name=function)

    def default_callback(self, cookie: int, result: int) -> None:
        """No callback: the kernel's own gives `result`."""
        text = f"default exception callback(cookie={value(cookie)}) = {value(result)}"
        shown = Shown("r0", result, value(result))
        self.add(Event.DEFAULT, text, place=None, cookie=cookie, result=shown)

    def replace(self, function: str, program: str, how: str) -> None:
        """Another program takes a function's place: `how` is "tail call" or "freplace"."""
        text = f"{function} is replaced by program {program}"
        if how == "freplace":
            text = f"{function} is replaced by {program} (freplace)"
        self.add(Event.REPLACE, text, name=program)

    def run(self, number: int, total: int) -> None:
        """One of several runs starts."""
        self.depth = 0
        self.add(Event.RUN, f"run {number} of {total}:", place=None)

    def result(self, number: int) -> None:
        """The value that the consumer of the program sees."""
        self.depth = 0
        shown = Shown("value", number, value(number))
        self.add(Event.RESULT, f"result: {shown.text}", place=None, result=shown)

    def wire(self, hook: str, action: str) -> None:
        """What became of the frame on a live hook."""
        self.add(Event.WIRE, f"on {hook}: {action}", place=None, name=action)

    def fault(self, message: str) -> None:
        """The run ended without a value."""
        number = self._open[self.depth - 1] if 0 < self.depth <= len(self._open) else 0
        self.depth = 0
        self.add(Event.FAULT, message, frame=number, place=self.faulted)

    def instruction(self, program: "Program", pc: int, registers: list[Any]) -> None:
        """One instruction, with the values that it reads."""
        at = place(program, pc)
        if at is None:
            return
        read = dict.fromkeys(registers_read(program.insns[pc]))
        values = tuple(self.shown(f"r{r}", registers[r]) for r in read)
        known = " ".join(f"{v.name}={v.text}" for v in values)
        text = f"{pc:4}: {disasm.instruction(program, pc)}"
        text = f"{text:<36}; {known}" if known else text
        self.add(Event.INSTRUCTION, text, place=at, values=values)

    def _up(self) -> int:
        self.depth = max(self.depth - 1, 0)
        return self._open[self.depth] if self.depth < len(self._open) else 0

    def _here(self) -> Place | None:
        machine = self.machine
        if machine is None or not machine.frames:
            return None
        return place(machine.frames[-1].program, machine.pc)

    def _caller(self, frame: "Frame") -> Place | None:
        """The call in the frame below; None for what the kernel calls by itself."""
        machine = self.machine
        if machine is None or len(machine.frames) < 2 or frame.kind not in _CALLED:
            return None
        return place(machine.frames[-2].program, machine.pc)


_CALLED = frozenset({"subprogram", "callback", "program"})
