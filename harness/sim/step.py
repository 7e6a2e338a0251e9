# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow sim --step`: stop before instructions, and take commands from standard input.

Owns when to stop and the loop of commands; what a command shows is harness.sim.stepviews'. Works
on the reference engine by Trace.watcher and Trace.listener, so that nothing else pays for it.
Without a terminal each command is printed as it is read: a script and its output read as one.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from harness.bpf.link import Program
from harness.sim import stepviews
from harness.sim.breakpoints import Breakpoint, Watch, parse_break, parse_watch
from harness.sim.stepviews import Position
from harness.sim.trace import Event, Trace, TraceEvent, place, render

if TYPE_CHECKING:
    from harness.sim.machine import Machine

PROMPT = "(bpfthrow) "
# shown whatever runs on
_ALWAYS = frozenset({
    Event.RUN, Event.THROW, Event.RELEASE, Event.VANISH, Event.DEFAULT, Event.RESULT, Event.WIRE,
    Event.FAULT,
})  # fmt: skip
_DEEP = 1 << 30


class Quit(Exception):  # noqa: N818  # the user's word, not an error
    """The user has seen enough."""


Stop = Callable[[Position, int], bool]


@dataclass(slots=True)
class Stepper:
    """One session."""

    trace: Trace
    stdin: TextIO
    stdout: TextIO
    # live frames, outermost first: where each is
    positions: list[Position] = field(default_factory=list)
    breakpoints: list[Breakpoint] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    # whether to stop at a position, given the number of live frames
    until: Stop = lambda _position, _depth: True
    at_throw: bool = False
    # deepest live frame whose events are shown
    loud: int = _DEEP
    again: str = ""
    interrupted: bool = False
    _shown: tuple[str, str, int] = ("", "", 0)

    @property
    def machine(self) -> "Machine":
        """What runs."""
        assert self.trace.machine is not None
        return self.trace.machine

    def say(self, text: str) -> None:
        """Print lines."""
        self.stdout.write(text + "\n")
        self.stdout.flush()

    # ---- called while the program runs ------------------------------------------------------

    def before(self, program: Program, pc: int, registers: list[Any]) -> None:
        """An instruction comes next."""
        depth = len(self.machine.frames)
        position = Position(program, pc, registers)
        del self.positions[depth - 1 :]
        self.positions.append(position)
        reason = self._reason(position)
        if reason or self.until(position, depth):
            if reason:
                self.say(reason)
            self._where()
            self._prompt()

    def event(self, event: TraceEvent) -> None:
        """Something happened between two instructions."""
        if event.kind in _ALWAYS or event.depth <= self.loud or event.role == "exception callback":
            self.say(render(event))
        if event.kind is Event.THROW and self.at_throw:
            self._where()
            self._prompt()
        elif event.kind in (Event.RESULT, Event.FAULT):
            self.positions.clear()

    def _reason(self, position: Position) -> str:
        if self.interrupted:
            self.interrupted = False
            return "interrupted"
        for number, point in enumerate(self.breakpoints, 1):
            if point.hit(position.program, position.pc):
                return f"breakpoint {number}: {point.text}"
        changes = [w.changed(self.machine, position.registers) for w in self.watches]
        return "\n".join(change for change in changes if change)

    # ---- commands ---------------------------------------------------------------------------

    def _where(self) -> None:
        """The C line, where it is another one than before, and the instruction."""
        position = self.positions[-1]
        at = place(position.program, position.pc)
        if at is not None and (at.function, at.file, at.line) != self._shown:
            self._shown = (at.function, at.file, at.line)
            self.say(f"{at.function} at {at.short or '?'}  {at.source}".rstrip())
        self.say(stepviews.instruction(self.trace, position))

    def _prompt(self) -> None:
        """Take commands until one lets the program run on. Raises Quit."""
        while True:
            line = self._read().strip() or self.again
            if not line:
                continue
            name, _, rest = line.partition(" ")
            command = find(name)
            if isinstance(command, str):
                self.say(command)
                continue
            self.again = line if command.repeats else ""
            if command.act(self, rest.strip()):
                return

    def _read(self) -> str:
        if self.stdin.isatty():
            with _default_interrupt():
                try:
                    return input(PROMPT)
                except EOFError:
                    self.say("")
                    raise Quit from None
        line = self.stdin.readline()
        if not line:
            raise Quit
        self.say(PROMPT + line.rstrip("\n"))
        return line

    def run_until(self, stop: Stop, loud: int = -1, *, at_throw: bool = False) -> bool:
        """Let the program go on until `stop` holds."""
        self.until, self.loud, self.at_throw = stop, loud, at_throw
        return True


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the language. `act` says whether the program goes on."""

    name: str
    short: str
    usage: str
    help: str
    act: Callable[[Stepper, str], bool]
    repeats: bool = False


def find(name: str) -> "Command | str":
    """The command of this name, short name or unambiguous beginning; else what is wrong."""
    for command in COMMANDS:
        if name in (command.name, command.short):
            return command
    found = [c for c in COMMANDS if c.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        return f"{name!r} may be {', '.join(c.name for c in found)}"
    return f"no command {name!r}; `help` lists them"


def _count(stepper: Stepper, rest: str) -> int:
    if rest and not (rest.isdecimal() and len(rest) < 10 and int(rest)):
        stepper.say(f"{rest!r} is no number of steps")
        return 0
    return int(rest or 1)


def _counted(stop: Stop, count: int) -> Stop:
    left = count

    def often(position: Position, depth: int) -> bool:
        nonlocal left
        left -= stop(position, depth)
        return left <= 0

    return often


def _step(stepper: Stepper, rest: str) -> bool:
    count = _count(stepper, rest)
    return bool(count) and stepper.run_until(_counted(lambda _p, _d: True, count), _DEEP)


def _next(stepper: Stepper, rest: str) -> bool:
    count, here = _count(stepper, rest), len(stepper.machine.frames)
    return bool(count) and stepper.run_until(_counted(lambda _p, depth: depth <= here, count), here)


def _line_changes(stepper: Stepper, *, into: bool) -> Stop:
    here, last = len(stepper.machine.frames), stepper.positions[-1].line()

    def changed(position: Position, depth: int) -> bool:
        nonlocal here, last
        if depth > here and not into:
            return False
        if depth == here and position.line() == last:
            return False
        here, last = depth, position.line()
        return True

    return changed


def _line(stepper: Stepper, rest: str) -> bool:
    count, here = _count(stepper, rest), len(stepper.machine.frames)
    return bool(count) and stepper.run_until(
        _counted(_line_changes(stepper, into=False), count), here
    )


def _into(stepper: Stepper, rest: str) -> bool:
    count = _count(stepper, rest)
    stop = _line_changes(stepper, into=True)
    return bool(count) and stepper.run_until(_counted(stop, count), _DEEP)


def _finish(stepper: Stepper, _rest: str) -> bool:
    here = len(stepper.machine.frames)
    return stepper.run_until(lambda _p, depth: depth < here, here - 1)


def _throw(stepper: Stepper, rest: str) -> bool:
    if rest not in ("", "throw"):
        stepper.say(f"until what? `until throw` is what there is, not {rest!r}")
        return False
    return stepper.run_until(lambda _p, _d: False, at_throw=True)


def _continue(stepper: Stepper, _rest: str) -> bool:
    return stepper.run_until(lambda _p, _d: False)


def _break(stepper: Stepper, rest: str) -> bool:
    if not rest:
        stepper.say(stepviews.breakpoints(stepper.breakpoints, stepper.watches))
        return False
    point = parse_break(rest, stepper.positions[-1].program, stepper.positions[-1].pc)
    if isinstance(point, str):
        stepper.say(point)
    else:
        stepper.breakpoints.append(point)
        stepper.say(f"breakpoint {len(stepper.breakpoints)}: {point.text}")
    return False


def _watch(stepper: Stepper, rest: str) -> bool:
    watch = parse_watch(rest, stepper.machine, stepper.positions[-1].registers)
    if isinstance(watch, str):
        stepper.say(watch)
    else:
        stepper.watches.append(watch)
        stepper.say(f"watch {watch.name}: {watch.show()}")
    return False


def _delete(stepper: Stepper, rest: str) -> bool:
    if rest.isdecimal() and 0 < int(rest) <= len(stepper.breakpoints):
        stepper.say(f"deleted: {stepper.breakpoints.pop(int(rest) - 1).text}")
    elif any(w.name == rest for w in stepper.watches):
        stepper.watches[:] = [w for w in stepper.watches if w.name != rest]
    elif rest:
        stepper.say(f"no breakpoint {rest!r}; `break` lists them")
    else:
        stepper.breakpoints.clear()
        stepper.watches.clear()
    return False


def _help(stepper: Stepper, _rest: str) -> bool:
    for command in COMMANDS:
        stepper.say(f"  {command.usage:<24} {command.short:<3} {command.help}")
    stepper.say("An empty line repeats step, next, line, into, finish, until and continue.")
    return False


def _quit(_stepper: Stepper, _rest: str) -> bool:
    raise Quit


def _view(show: Callable[[Stepper, str], str]) -> Callable[[Stepper, str], bool]:
    def act(stepper: Stepper, rest: str) -> bool:
        stepper.say(show(stepper, rest))
        return False

    return act


COMMANDS = (
    Command("step", "s", "step [N]", "one instruction, into calls", _step, repeats=True),
    Command("next", "n", "next [N]", "one instruction, over calls", _next, repeats=True),
    Command("line", "l", "line [N]", "to the next C line, over calls", _line, repeats=True),
    Command("into", "i", "into [N]", "to the next C line, into calls", _into, repeats=True),
    Command("finish", "f", "finish", "until this frame ends, however", _finish, repeats=True),
    Command("until", "u", "until throw", "until bpf_throw() is called", _throw, repeats=True),
    Command("throw", "t", "throw", "the same", _throw, repeats=True),
    Command("continue", "c", "continue", "until a breakpoint, or the end", _continue, repeats=True),
    Command("break", "b", "break FUNC|[FILE:]LINE|*PC", "stop there; alone: list them", _break),
    Command("watch", "w", "watch GLOBAL|rN", "stop when it changes", _watch),
    Command("delete", "d", "delete [N|NAME]", "a breakpoint or watch, or all of them", _delete),
    Command("registers", "r", "registers [FRAME]", "R0 to R10", _view(
        lambda s, rest: stepviews.registers(s.trace, s.positions, rest))),
    Command("frames", "bt", "frames", "live frames, innermost first", _view(
        lambda s, _rest: stepviews.frames(s.machine, s.positions))),
    Command("stack", "st", "stack [FRAME]", "what was written to a frame's stack", _view(
        lambda s, rest: stepviews.stack(s.trace, s.positions, rest))),
    Command("packet", "p", "packet [all]", "the frame, with data and data_end", _view(
        lambda s, rest: stepviews.packet(s.machine, rest))),
    Command("maps", "m", "maps [NAME]", "all maps, or what one holds", _view(
        lambda s, rest: stepviews.maps(s.machine, rest))),
    Command("globals", "g", "globals", "global variables", _view(
        lambda s, _rest: stepviews.global_variables(s.machine))),
    Command("list", "ls", "list [FRAME]", "C lines around", _view(
        lambda s, rest: stepviews.source(s.positions, rest))),
    Command("code", "co", "code [FRAME]", "instructions around", _view(
        lambda s, rest: stepviews.code(s.positions, rest))),
    Command("help", "h", "help", "this list", _help),
    Command("quit", "q", "quit", "end it (also Ctrl-D)", _quit),
)  # fmt: skip


# ---- the session ---------------------------------------------------------------------------


@contextlib.contextmanager
def stepping(trace: Trace, stdin: TextIO, stdout: TextIO) -> Iterator[Stepper]:
    """Stop a run that is traced by `trace` before its first instruction. The run raises Quit."""
    stepper = Stepper(trace, stdin, stdout)
    trace.on, trace.watcher, trace.listener = True, stepper.before, stepper.event
    if stdin.isatty():
        _complete()
    try:
        with _interrupts(stepper):
            yield stepper
    finally:
        trace.watcher = trace.listener = None


def _complete() -> None:
    """Editing, history and completion of command names."""
    try:
        import readline  # noqa: PLC0415  # not everywhere, and only for a terminal
    except ImportError:
        return
    names = [command.name for command in COMMANDS]

    def complete(text: str, state: int) -> str | None:
        found = [name for name in names if name.startswith(text)]
        return found[state] if state < len(found) else None

    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


@contextlib.contextmanager
def _interrupts(stepper: Stepper) -> Iterator[None]:
    """Ctrl-C stops the program at its next instruction; a second one ends everything."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if stepper.interrupted:
            raise KeyboardInterrupt
        stepper.interrupted = True

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _default_interrupt() -> Iterator[None]:
    """At the prompt Ctrl-C leaves, as everywhere else."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
