# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Is what the simulator sees at an instruction what a verifier said could be there?

Runs a case on the reference engine and holds every register before every instruction against the
states that a log of level 2 has for it: some state must fit all registers together. Behind a place
where the verifier ended its path, because a state like it had been explored, it promises nothing
about numbers that it found to be of no importance: from there on such a run is not judged, until a
function begins that is verified by itself.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harness.errors import ObjectError, UsageError
from harness.sim.frames import CALLBACK, EXCEPTION_CALLBACK, PROGRAM
from harness.sim.memory import STACKS, TAG
from harness.sim.run import run_case
from harness.sim.trace import Trace

MAX_VIOLATIONS = 100
# the verifier takes a subprogram that tail-calls for one that returns what stands behind the call:
# Linux kernel commit e3245f899007 (v6.19, in 6.18.y) has it return anything
TRUSTS_TAIL_CALLS = ("6.12",)
_OBJECTS = ("ptr_", "rcu_ptr_", "trusted_ptr_", "untrusted_ptr_", "percpu_ptr_")


@dataclass
class Outcome:
    """What came of some cases."""

    # registers of numbers and of pointers that were held against states
    numbers: int = 0
    pointers: int = 0
    # instructions where that was done, and behind the end of a path
    judged: int = 0
    beyond: int = 0
    # instructions behind a return that a tail call of a subprogram made, where a kernel is wrong
    holes: int = 0
    # pointers of kinds that are not compared
    others: Counter = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other):
        """Count another outcome in."""
        self.numbers += other.numbers
        self.pointers += other.pointers
        self.judged += other.judged
        self.beyond += other.beyond
        self.holes += other.holes
        self.others += other.others
        self.violations += other.violations


@dataclass
class Frame:
    """What the watch remembers of a live frame."""

    frame: Any
    # of the instruction that ran last
    pc: int
    # the path has come to a place where the verifier's own had ended
    beyond: bool
    # it was verified by itself, from unknown arguments on
    apart: bool
    # of the program that is running in it
    program: str
    # a kernel is wrong about what a call returned to it
    hole: bool = False


class Watch:
    """Told of every instruction of one run (harness.sim.trace.Trace.watcher)."""

    def __init__(self, logs, outcome, what, *, trusts_tail_calls):
        self.logs, self.outcome, self.what = logs, outcome, what
        self.trusts_tail_calls = trusts_tail_calls
        self.trace = None
        self.frames = []
        self.last = None

    @property
    def machine(self):
        return self.trace.machine

    def __call__(self, program, pc, registers):
        log = self.logs.get(program.name)
        self._follow(log, pc)
        if log is None:
            return
        if self.frames[-1].hole:
            self.outcome.holes += 1
            return
        if self.frames[-1].beyond:
            self.outcome.beyond += 1
            return
        self.outcome.judged += 1
        self._judge(log, program, pc, registers)

    def _follow(self, log, pc):
        """Which frame runs now, and whether the verifier went this way."""
        live, previous, left = self.machine.frames, self.last, False
        while self.frames and (
            len(self.frames) > len(live) or self.frames[-1].frame is not live[len(self.frames) - 1]
        ):
            left = True
            self._end_of(self.frames.pop())
        for frame in live[len(self.frames) :]:
            apart = frame.kind in (PROGRAM, EXCEPTION_CALLBACK) or (
                frame.function.linkage == "global" and frame.kind != CALLBACK
            )
            beyond = bool(self.frames) and self.frames[-1].beyond and not apart
            self.frames.append(Frame(frame, pc, beyond, apart, frame.program.name))
        here = self.frames[-1]
        here.program = here.frame.program.name
        if log is not None and previous is not None:
            ways = {(previous, pc)}
            if left or here.frame.kind == CALLBACK:
                # a callback goes back to the call before anything else happens
                ways |= {(previous, frame.pc) for frame in self.frames}
            here.beyond = here.beyond or bool(ways & log.pruned)
        here.pc = self.last = pc

    def _end_of(self, ended):
        """A frame has returned: what was not verified by itself was verified in place."""
        if not self.frames:
            return
        caller = self.frames[-1]
        if ended.beyond and not ended.apart:
            caller.beyond = True
        tail_called = self.machine.tail_calls and ended.program != caller.program
        if ended.hole or (tail_called and self.trusts_tail_calls):
            caller.hole = True

    def _judge(self, log, program, pc, registers):
        states = log.states.get(pc, [])
        best = None
        for state in states:
            wrong = self._misfits(state, registers)
            if not wrong:
                self._count(state, registers)
                return
            if best is None or len(wrong) < len(best):
                best = wrong
        if len(self.outcome.violations) < MAX_VIOLATIONS:
            why = ", ".join(best) if best else "no state at all"
            place = f"{self.what}: {program.name} instruction {pc}"
            self.outcome.violations.append(f"{place}: {why} ({len(states)} states)")

    def _misfits(self, state, registers):
        return [
            f"{name}={registers[int(name[1:])]:#x} is not {known}"
            for name, known in state.items()
            if name.startswith("R")
            and registers[int(name[1:])] is not None
            and self._fits(known, registers[int(name[1:])]) is False
        ]

    def _count(self, state, registers):
        for name, known in state.items():
            if name.startswith("R") and registers[int(name[1:])] is not None:
                if known.kind == "scalar":
                    self.outcome.numbers += 1
                elif self._fits(known, registers[int(name[1:])]) is None:
                    self.outcome.others[known.kind] += 1
                else:
                    self.outcome.pointers += 1

    def _fits(self, known, value):
        """Whether a value is one that was known; None: of a kind that is not compared."""
        if known.kind == "scalar":
            # a pointer that became a number has an address that only the simulator has
            return True if value >> 56 == TAG else known.contains(value)
        if value == 0:
            return known.null or known.kind.startswith(_OBJECTS) or None
        if value >> 56 != TAG:
            return None if known.kind in ("arena", "map_key", "func") else False
        if known.kind in ("arena", "func", "map_key", "percpu_ptr_rq"):
            return None
        region = self.machine.memory.regions.get(value >> 32)
        if region is None:
            return None
        return self._place(known, value, region)

    def _place(self, known, value, region):
        offset = value - region.address
        kind, name = known.kind, region.name
        if kind == "fp":
            if not (value >> 32) & STACKS:
                return False
            return any(
                frame.stack is region and known.contains_offset(value - frame.stack.top)
                for frame in self.machine.frames
            )
        packet = self.machine.context.packet
        if kind in ("pkt", "pkt_meta", "pkt_end"):
            if packet is None or region is not packet.region:
                return False
            start = {"pkt": packet.start, "pkt_meta": packet.meta, "pkt_end": packet.end}[kind]
            return known.contains_offset(offset - start)
        if kind == "ctx":
            return "ctx" in name and known.contains_offset(offset)
        if kind == "map_ptr":
            return name.startswith("map ")
        if kind == "map_value":
            step = -(-int(known.fields.get("vs", "1")) // 8) * 8 or 8
            whole = known.contains_offset(offset) or known.contains_offset(offset % step)
            return "ctx" not in name and name != "packet" and whole
        if kind == "rdonly_mem":
            # the number of an iterator, which the simulator keeps in the iterator
            return None
        if kind in ("ringbuf_mem", "mem"):
            return known.contains_offset(offset)
        if kind.startswith(_OBJECTS):
            return name.startswith(("struct ", "kernel variable")) or None
        return None


def check(case, profile, logs, environment):
    """Run a case and judge it by the logs of its object's programs: Outcome."""
    outcome = Outcome()
    watch = Watch(logs, outcome, case.id, trusts_tail_calls=profile in TRUSTS_TAIL_CALLS)
    trace = watch.trace = Trace(watcher=watch)
    try:
        run_case(case, profile, trace=trace, environment=environment)
    except (ObjectError, UsageError) as error:
        outcome.others[f"not run: {error}"] += 1
    return outcome
