# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One case through the simulator: Case in, Observation out.

Owns what the consumer of a program makes of its value (width, meaning on the wire). Source for the
widths: BPF_PROG_TEST_RUN's retval is a u32.
"""

import functools
import time
from pathlib import Path

from harness import hooks
from harness.bpf.elf import Object, decode_globals, read_object
from harness.bpf.environment import NOWHERE, Environment
from harness.bpf.link import Program, RefKind
from harness.bpf.sections import program_type
from harness.errors import ObjectError, UsageError
from harness.hooks import Action
from harness.model import Case, Observation, Provenance, Verdict
from harness.sim import context, maps, semantics
from harness.sim.engines import Engine
from harness.sim.machine import DEFAULT_BUDGET, Machine
from harness.sim.mapkinds.references import Programs
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import Trace

_U32 = 0xFFFF_FFFF
_GONE = frozenset({Action.DROP, Action.ABORTED})
# the hook on which a program is loaded and nothing runs
_LOAD = "load"


def run_case(
    case: Case,
    profile: str,
    *,
    trace: bool | str | Trace = False,
    budget: int = DEFAULT_BUDGET,
    environment: Environment = NOWHERE,
    engine: Engine | None = None,
) -> Observation:
    """Run all repetitions of a case.

    `trace` is False, True or "events", "full" (every instruction), or a Trace to put the events
    into. Verdicts: `ran`; `rejected` with "simulator fault: ..." for a program that no verifier
    accepts; `unsupported` for what is not modelled or over a limit of the simulator. What libbpf
    refuses while it links is `rejected` too, in libbpf's words. `environment`: the kernel that
    libbpf would ask; a program that needs to know more of it than is given is `unsupported`.
    `engine` executes; None: the reference, which alone can be traced. Raises ObjectError for a
    broken object or an unknown program, UsageError for an unknown profile, Declined where `engine`
    does not do a program.
    """
    started, obj = time.monotonic(), load(case.object)
    log = trace
    if not isinstance(log, Trace):
        log = Trace(on=bool(trace), instructions=trace == "full")
    machine = machine_for(case, profile, log, budget, environment)
    if engine is not None:
        machine.engine = engine
    try:
        _bring_in(machine, case)
        check_allowed(machine, case)
        retvals, wire, frame = _run_all(machine, case)
        content = map_content(machine)
    except Unsupported as error:
        verdict, message = Verdict.UNSUPPORTED, f"unsupported: {error}"
    except Fault as error:
        verdict, message = Verdict.REJECTED, f"simulator fault: {error}"
    except (NotAllowed, ObjectError) as error:
        verdict = Verdict.REJECTED
        message = str(error.args[0]).removeprefix(f"{obj.path}: ")
    else:
        return Observation(
            Verdict.RAN,
            retvals=retvals,
            data_out=frame,
            maps=content,
            wire=wire,
            doubts=tuple(maps.doubts(machine.maps)),
            leaks=tuple(machine.resources.leaked),
            trace=log.text(),
            duration_s=time.monotonic() - started,
            provenance=_provenance(machine),
        )
    log.fault(message)
    return Observation(
        verdict,
        message=message,
        trace=log.text(),
        duration_s=time.monotonic() - started,
        provenance=_provenance(machine),
    )


def _provenance(machine: Machine) -> Provenance:
    return Provenance(source="simulator", kernel=machine.profile.name, engine=machine.engines())


def machine_for(
    case: Case, profile: str, log: Trace, budget: int, environment: Environment = NOWHERE
) -> Machine:
    """A machine with the object of a case loaded. Raises as `run_case`."""
    obj = load(case.object)
    own = [each.program for each in case.companions if not each.object]
    for name in (case.program, *own):
        obj.program(name)
    machine = Machine(obj, semantics.profile(profile), log, budget, companions=case.companions)
    machine.program_type, machine.environment = _type_of(case), environment
    return machine


def _bring_in(machine: Machine, case: Case) -> None:
    """Programs of other objects, and what prog arrays hold. Raises Unsupported, ObjectError."""
    ours = {program.name for program in machine.obj.programs}
    for each in case.companions:
        if each.object and each.program in ours:
            raise Unsupported(f"two programs called {each.program}, of two objects")
        if each.object:
            try:
                machine.adopt(load(each.object), each.program)
            except ObjectError:
                raise
            except UsageError as error:
                raise Unsupported(error.message) from None
    for slot in case.tail_calls:
        array = machine.maps[slot.map]
        assert isinstance(array, Programs)
        array.programs[slot.index] = slot.program


def map_content(machine: Machine) -> dict[str, dict[str, str]]:
    """Maps and globals as an Observation holds them."""
    return maps.dump(
        machine.maps, machine.sections, lambda name, data: decode_globals(machine.obj, name, data)
    )


class NotAllowed(Exception):  # noqa: N818
    """The profile's kernel does not let this program type throw."""


def load(path: str) -> Object:
    """Read an object, once for each state of the file."""
    try:
        status = Path(path).stat()
    except OSError:
        return read_object(path)  # says what is wrong
    return _load(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _load(path: str, _mtime_ns: int, _size_bytes: int) -> Object:
    return read_object(path)


def _type_of(case: Case) -> str:
    named = program_type(case.section)
    return named or hooks.HOOKS[case.hook].prog_type


def _throws(program: Program) -> bool:
    return any(r.kind is RefKind.KFUNC and r.name == "bpf_throw" for r in program.refs.values())


def check_allowed(machine: Machine, case: Case) -> None:
    """What is refused without a verifier. Raises NotAllowed, Unsupported, ObjectError, Fault."""
    programs = [machine.program(n) for n in (case.program, *(c.program for c in case.companions))]
    if machine.program_type not in machine.profile.throw_types and _throws(programs[0]):
        raise NotAllowed("calling kernel function bpf_throw is not allowed")
    if case.hook == _LOAD:
        raise Unsupported("whether a program loads: there is no verifier here")
    for program in programs:
        if program.unknown:
            pc, what = min(program.unknown.items())
            raise Unsupported(f"{what} (instruction {pc} of program {program.name})")


def _run_all(machine: Machine, case: Case) -> tuple[tuple[int, ...], tuple[str, ...], bytes | None]:
    retvals, wire, frame = [], [], None
    live, given = hooks.HOOKS[case.hook].live, None
    for number in range(case.repeat):
        if case.repeat > 1:
            machine.trace.run(number + 1, case.repeat)
        if given is not None:  # a machine of many runs would not have room for all of them
            context.forget(given, machine.memory)
        given = context.build(
            machine.program_type, case.hook, case.input, machine.memory, machine.profile
        )
        retval = machine.run(case.program, given) & _U32
        retvals.append(retval)
        frame = given.data_out()
        machine.trace.result(retval)
        if live:
            action = hooks.meaning(case.hook, retval)
            wire.append(str(action))
            machine.trace.wire(case.hook, str(action))
            frame = None if action in _GONE else frame
    return tuple(retvals), tuple(wire), frame
