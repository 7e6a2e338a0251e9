# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Failed results as annotations of a forge: which line of which BPF program, and what is wrong.

Owns the choice of the line and of what is said; how a forge is told is harness.workflow's. Prints
nothing.
"""

import dataclasses
import re
from collections.abc import Sequence

from harness.bpf.environment import NOWHERE, Environment
from harness.bpf.link import link
from harness.bpf.program import Program
from harness.environments import environment_of, needs_kernel
from harness.errors import BpfthrowError
from harness.model import Case, Result, Verdict
from harness.report.detail import replay
from harness.report.outcome import Outcome, RunHeader, first_line, nothing_ran, outcome
from harness.series import series_of
from harness.sim import run_case
from harness.sim.run import load
from harness.sim.trace import Event, Trace
from harness.workflow import Annotation, Place, github, workspace

__all__ = ["SHOWN", "annotations", "github", "place_of", "workspace"]

# what a forge takes: GitHub shows ten errors and ten warnings of a step, and drops the rest
SHOWN = 10
# the worst first, since only so many are shown
_ORDER = tuple(Outcome(name) for name in ("crashed", "hung", "differ", "flaky", "lost"))
# an instruction as the verifier prints it: the last one is where it stopped
_STOPPED = re.compile(r"^(\d+): \([0-9a-f]{2}\)", re.MULTILINE)
_DIFFERENCES = 4


def annotations(
    results: Sequence[Result], header: RunHeader, profile: str = ""
) -> list[Annotation]:
    """What is wrong, the worst first: one for each case, place and complaint.

    The same complaint on several hooks and targets is one annotation. Never more than SHOWN
    errors: the last of too many says how many are left out.
    """
    groups: dict[tuple[Outcome, str, Place, tuple[str, ...]], list[Result]] = {}
    for kind in _ORDER:
        for result in results:
            if outcome(result) is kind:
                place = Place() if kind is Outcome.LOST else place_of(result, profile)
                groups.setdefault((kind, _name(result), place, _complaint(result)), []).append(
                    result
                )
    found = [_of_group(*key, found, header) for key, found in groups.items()]
    found += [_barren(name) for name in nothing_ran(results, header)]
    return _few(found)


def _name(result: Result) -> str:
    # of a lost machine every case says the same
    lost = outcome(result) is Outcome.LOST
    return result.target if lost else result.case.id


def _complaint(result: Result) -> tuple[str, ...]:
    if not result.differences:
        words = first_line(result.observed.message) or "no reason given"
        return (f"{result.observed.verdict}: {words}",)
    lines = [
        f"{each.path}: {each.between[0]} says {first_line(each.expected)},"
        f" {each.between[1]} says {first_line(each.observed)}"
        for each in result.differences
    ]
    left = len(lines) - _DIFFERENCES
    return (*lines[:_DIFFERENCES], *([f"({left} more differences)"] if left > 0 else []))


def _of_group(
    kind: Outcome,
    name: str,
    place: Place,
    complaint: tuple[str, ...],
    results: Sequence[Result],
    header: RunHeader,
) -> Annotation:
    hooks: dict[str, list[str]] = {}
    for result in results:
        hooks.setdefault(result.target, []).append(result.case.hook)
    lines = list(complaint)
    if kind is Outcome.LOST:
        lines.append(f"{len(results)} cases without a result")
    else:
        lines += [f"on {target}: {', '.join(names)}" for target, names in hooks.items()]
        lines.append(f"again: {_again(results[0], place, header)}")
    level = "warning" if kind is Outcome.LOST else "error"
    return Annotation(level, f"{name}: {kind}", "\n".join(lines), place)


def _again(result: Result, place: Place, header: RunHeader) -> str:
    # the source, where it is known: an object in somebody's cache is of no use elsewhere
    if place.file.endswith(".bpf.c"):
        result = dataclasses.replace(
            result, case=dataclasses.replace(result.case, object=place.file)
        )
    return replay(result, header.target(result.target).spec)


def _barren(target: str) -> Annotation:
    text = "every case was unsupported, yet this kernel should have exceptions"
    return Annotation("error", f"{target}: nothing ran", text)


def _few(found: list[Annotation]) -> list[Annotation]:
    errors = [each for each in found if each.level == "error"]
    others = [each for each in found if each.level != "error"][:SHOWN]
    if len(errors) > SHOWN:
        left = len(errors) - SHOWN + 1
        more = Annotation("error", f"{left} more failures", "the report has them all")
        errors = [*errors[: SHOWN - 1], more]
    return errors + others


def place_of(result: Result, profile: str = "") -> Place:
    """The line that a failed result is about.

    Of a refused program the instruction at which the verifier stopped; else the last bpf_throw
    that the simulator met; else where the program begins. Place() where the object tells nothing.
    """
    release = result.observed.provenance.kernel
    try:
        case = result.case
        obj = load(case.object)
        environment = environment_of(release) if needs_kernel(obj) else NOWHERE
        program = link(obj, case.program, environment)
        if result.observed.verdict is Verdict.REJECTED:
            stopped = _STOPPED.findall(result.observed.log)
            return _line(program, int(stopped[-1]) if stopped else 0)
        return _thrown(case, profile or series_of(release), environment) or _line(program, 0)
    except (BpfthrowError, OSError):
        return Place()  # the report says what is wrong with the object


def _line(program: Program, pc: int) -> Place:
    line = program.line_at(pc) if pc < len(program.insns) else program.line_at(0)
    return Place(line.file, line.number) if line else Place()


def _thrown(case: Case, profile: str, environment: Environment) -> Place | None:
    trace = Trace(on=True)
    run_case(case, profile, trace=trace, environment=environment)
    throws = [event.place for event in trace.events if event.kind is Event.THROW and event.place]
    return Place(throws[-1].file, throws[-1].line) if throws and throws[-1].file else None
