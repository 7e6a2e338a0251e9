# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The simulator for Python programs: load an object, run its programs, look at what they left.

Owns the small interface that docs/library.md describes and that stays: `Machine` and `Run`, in
`harness.sim`. A program that misbehaves is a Run without a value; only the caller's own mistakes
are exceptions (harness.errors.UsageError). What executes is harness.sim.machine's.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.bpf.environment import NOWHERE, Environment
from harness.bpf.sections import attach_target, program_type
from harness.errors import ObjectError, UsageError
from harness.frames import parse_input
from harness.model import Case, Companion, Input, Verdict
from harness.sim import context, run, semantics
from harness.sim.engines import choice
from harness.sim.given import MAX_CTX_BYTES, MAX_PACKET_BYTES
from harness.sim.machine import DEFAULT_BUDGET
from harness.sim.machine import Machine as _Machine
from harness.sim.semantics import DEFAULT_PROFILE
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import Trace, TraceEvent, render

_U32 = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one run of one program."""

    # RAN; REJECTED: it did what no verifier accepts, or libbpf would not link it; UNSUPPORTED: it
    # needs something that is not modelled, or more than the budget
    verdict: Verdict
    # what its consumer sees, 32 bits; None where it did not come to its end
    value: int | None = None
    # why there is no value, with the C line; "" where there is one
    message: str = ""
    # of each bpf_throw(), 64 bits, in the order of throwing
    cookies: tuple[int, ...] = ()
    # the frame as it goes on; None for programs without one
    packet: bytes | None = None
    # what a throw left behind: references, locks, ...
    leaks: tuple[str, ...] = ()
    # instructions that were executed
    instructions: int = 0
    # "reference", "source", "native", or several of them
    engine: str = ""
    # of a machine that traces
    events: tuple[TraceEvent, ...] = field(default=(), repr=False)

    @property
    def threw(self) -> bool:
        """Whether bpf_throw() was called."""
        return bool(self.cookies)

    @property
    def trace(self) -> str:
        """The events as `bpfthrow sim --trace` prints them."""
        return "\n".join(render(event) for event in self.events)


class Machine:
    """A simulated kernel with one object loaded; maps and globals carry on from run to run."""

    def __init__(  # noqa: PLR0913  # options, all by name
        self,
        path: str | os.PathLike[str],
        *,
        profile: str = DEFAULT_PROFILE,
        engine: str = choice.AUTO,
        budget: int = DEFAULT_BUDGET,
        seed: int = 1,
        trace: bool | str = False,
        attach: Sequence[str] = (),
        environment: Environment = NOWHERE,
    ) -> None:
        """Load a compiled object.

        `profile`: semantics, a key of harness.sim.PROFILES. `engine`: "auto", "reference",
        "source" or "native" (see docs/simulator.md). `budget`: instructions that one run may
        execute. `seed`: of what bpf_get_prandom_u32() returns. `trace`: record events; "full":
        every instruction, too; both on the reference engine. `attach`: freplace, fentry and
        fexit programs of the object, by name, in the order of attaching. `environment`: what is
        known of the kernel that libbpf would ask. Raises UsageError.
        """
        if trace and engine not in (choice.AUTO, "reference"):
            raise UsageError(f"engine {engine!r} has no trace", fix="trace with engine='reference'")
        obj = run.load(os.fspath(path))
        self._path = os.fspath(path)
        self._budget = budget
        companions = tuple(_companion(name, obj.program(name).section) for name in attach)
        log = Trace(on=bool(trace), instructions=trace == "full")
        self._machine = _Machine(
            obj,
            semantics.profile(profile),
            log,
            budget,
            seed,
            companions=companions,
            environment=environment,
        )
        self._machine.engine = choice.named("reference" if trace else engine, runs=None)

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the object's programs."""
        return tuple(program.name for program in self._machine.obj.programs)

    def run(
        self, program: str, packet: bytes | str | None = None, *, ctx: bytes | None = None
    ) -> Run:
        """Run a program once, as BPF_PROG_TEST_RUN does.

        `packet`: a frame from the destination MAC on, or words of the frame language
        ("eth ipv4 tcp payload=10", docs/writing-cases.md), for XDP, tc and cgroup_skb. `ctx`: the
        argument of a syscall program, or the arguments of a tracepoint. Raises UsageError for a
        program that is not there and for an input that is too long.
        """
        machine = self._machine
        section = machine.obj.program(program).section
        case = Case(
            self._path,
            self._path,
            program,
            section,
            "test_run",
            _input(packet, ctx),
            companions=machine.companions,
        )
        machine.program_type = program_type(section)
        machine.budget = self._budget
        machine.cookies.clear()
        machine.trace.forget()
        leaked = len(machine.resources.leaked)
        verdict, message, value, frame = _executed(machine, case)
        return Run(
            verdict,
            value,
            message,
            tuple(machine.cookies),
            frame,
            tuple(machine.resources.leaked[leaked:]),
            self._budget - max(machine.budget, 0),
            machine.engines(),
            tuple(machine.trace.events),
        )

    def map(self, name: str) -> dict[bytes, bytes]:
        """Keys and values of a map; of a per-CPU map each value holds those of all CPUs.

        Raises UsageError for no such map, and for a map whose elements have no keys or no bytes
        (queues, ring buffers, maps of programs, maps or targets).
        """
        found = self._machine.maps.get(name)
        if found is None:
            raise self._missing("map", name, self._machine.maps)
        if not found.has_content:
            raise UsageError(f"{self._path}: map {name!r} has no content that could be listed")
        content = found.content()
        return {bytes.fromhex(key): bytes.fromhex(value) for key, value in content.items()}

    def update(self, name: str, key: bytes, value: bytes) -> None:
        """Put an element into a map, before a run or between runs. Raises UsageError."""
        found = self._machine.maps.get(name)
        if found is None:
            raise self._missing("map", name, self._machine.maps)
        sizes = found.place.definition.key_size, found.place.definition.value_size
        if (len(key), len(value)) != sizes:
            raise UsageError(
                f"{self._path}: map {name!r} has keys of {sizes[0]} and values of {sizes[1]} bytes"
            )
        try:
            code = found.update(key, value, 0)
        except (Fault, Unsupported) as error:
            raise UsageError(f"{self._path}: map {name!r}: {error}") from error
        if code:
            raise UsageError(f"{self._path}: map {name!r} does not take it (error {-code})")

    def variable(self, name: str) -> bytes:
        """Bytes of a global variable. Raises UsageError for no such variable."""
        section, start, end = self._variable(name)
        return bytes(self._machine.sections[section].data[start:end])

    def set_variable(self, name: str, data: bytes) -> None:
        """Set a global variable, also a constant one. Raises UsageError for a wrong length."""
        section, start, end = self._variable(name)
        if len(data) != end - start:
            raise UsageError(f"{self._path}: variable {name!r} has {end - start} bytes")
        self._machine.sections[section].data[start:end] = data

    def _variable(self, name: str) -> tuple[str, int, int]:
        known = {v.name: (s.name, v) for s in self._machine.obj.sections for v in s.variables}
        if name not in known:
            raise self._missing("variable", name, known)
        section, found = known[name]
        return section, found.offset, found.offset + found.size_bytes

    def _missing(self, kind: str, name: str, known: Iterable[str]) -> UsageError:
        names = ", ".join(sorted(known)) or "none"
        return UsageError(f"{self._path}: no {kind} {name!r}", fix=f"{kind}s: {names}")


def _executed(machine: _Machine, case: Case) -> tuple[Verdict, str, int | None, bytes | None]:
    """Verdict, message, value and frame of one run."""
    given = None
    try:
        run.check_allowed(machine, case)
        given = context.build(
            machine.program_type, case.hook, case.input, machine.memory, machine.profile
        )
        value = machine.run(case.program, given) & _U32
        frame = given.data_out()
    except Unsupported as error:
        verdict, message = Verdict.UNSUPPORTED, str(error)
    except (Fault, ObjectError, run.NotAllowed) as error:
        verdict, message = Verdict.REJECTED, str(error.args[0])
    else:
        machine.trace.result(value)
        return Verdict.RAN, "", value, frame
    finally:
        if given is not None:  # a machine of many runs would not have room for all of them
            context.forget(given, machine.memory)
    machine.trace.fault(message)
    return verdict, message, None, None


def _companion(name: str, section: str) -> Companion:
    kind = program_type(section)
    if kind not in ("freplace", "fentry", "fexit"):
        raise UsageError(
            f"{name!r} in section {section!r} attaches to no program",
            fix="attach freplace, fentry and fexit programs",
        )
    return Companion(name, kind, attach_target(section))


def _input(packet: bytes | str | None, ctx: bytes | None) -> Input:
    if packet is not None and ctx is not None:
        raise UsageError("packet and ctx exclude each other")
    if isinstance(packet, str):
        return parse_input(packet)
    for name, data, most in (("packet", packet, MAX_PACKET_BYTES), ("ctx", ctx, MAX_CTX_BYTES)):
        if data is not None and len(data) > most:
            raise UsageError(f"{name} of {len(data)} bytes", fix=f"at most {most} bytes")
    return Input(packet=packet, ctx=ctx)
