# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pipeline: a case goes to the simulator and to a target, and the two are compared.

Owns the order of things and the deadline of a whole run. Prints nothing.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from harness.bpf.environment import NOWHERE, Environment
from harness.compare import REACHED, compare, expectation_for, expected_verdict, has_say
from harness.environments import environment_of, needs_kernel
from harness.errors import BpfthrowError, MachineLostError, ObjectError, UsageError, WorldError
from harness.hooks import HOOKS
from harness.kernels.image import should_throw
from harness.model import Case, Difference, Observation, Provenance, Result, Verdict
from harness.report.outcome import FAILURES, Tested, outcome
from harness.series import series_of
from harness.sim import run_case
from harness.sim.run import load
from harness.target.base import Target
from harness.target.deadline import Deadline

# A run may take this long, plus so much for each case.
RUN_TIMEOUT_S = 300.0
RUN_TIMEOUT_PER_CASE_S = 10.0
# cases in a row that no guest outlived: then it is the kernel, and not the cases
DEATHS_MAX = 10
_DEAD = (Verdict.CRASHED, Verdict.HUNG, Verdict.LOST)


def simulate(case: Case, release: str, profile: str = "") -> Observation | None:
    """What the simulator says of a case on a kernel of that release.

    None where it has no say: a rejection is the verifier's business.
    """
    if expected_verdict(expectation_for(case, release)) is Verdict.REJECTED:
        return None
    return _simulated(case, profile or series_of(release), _environment(case, release))


@functools.cache
def _simulated(case: Case, profile: str, environment: Environment) -> Observation:
    return run_case(case, profile, environment=environment)


def _environment(case: Case, release: str) -> Environment:
    """The kernel that libbpf would ask while it loads the case's object, where it asks."""
    try:
        needed = needs_kernel(load(case.object))
    except ObjectError:
        needed = False  # the simulator will say what is wrong
    return environment_of(release) if needed else NOWHERE


def simulate_ahead(cases: Iterable[Case], release: str, profile: str = "") -> None:
    """Fill the simulator's cache while a guest boots. An error waits for who asks again."""
    with suppress(BpfthrowError):
        for case in cases:
            if not case.unsupported:
                simulate(case, release, profile)


def traced(case: Case, release: str, profile: str = "") -> str:
    """The simulator's trace of a case, for the report of a difference."""
    environment = _environment(case, release)
    return run_case(case, profile or series_of(release), trace=True, environment=environment).trace


def with_trace(result: Result, profile: str = "") -> Result:
    """A result whose report needs the simulator's trace, with it; any other as it is.

    A trace explains a difference from what the simulator says, where it has a say: also where it
    says that the program is refused or faults, and never where it doubts its own answer.
    """
    if not result.differences or result.simulated is None or not has_say(result.simulated):
        return result
    trace = traced(result.case, result.observed.provenance.kernel, profile)
    return dataclasses.replace(result, simulated=dataclasses.replace(result.simulated, trace=trace))


def judge(case: Case, target: Target, profile: str = "", *, retries: int = 0) -> Result:
    """Run one case on the target and in the simulator, and compare.

    With `retries`, a failed case is tried once more in a fresh guest, where there is such a thing;
    its result stays the first one. MachineLostError when there is no machine and none can be had.
    """
    first = _judge(case, target, profile)
    if not retries or outcome(first) not in FAILURES:
        return first
    if first.observed.verdict in REACHED:
        # the guest goes, and with it what the cases before left behind
        first = _with_leaks(first, target)
    if not target.renew():
        return first
    try:
        again = _judge(case, target, profile)
    except WorldError as error:
        again = lost_result(case, target.name, error)
    return dataclasses.replace(first, again=again)


def _judge(case: Case, target: Target, profile: str) -> Result:
    if case.unsupported:
        provenance = Provenance(source=target.name, kernel=target.release)
        why = case.unsupported
        observed = Observation(Verdict.UNSUPPORTED, message=why, provenance=provenance)
        return Result(case, target.name, observed)
    observed = target.run(case)
    # not target.facts: after a crash that would boot another guest
    release = observed.provenance.kernel or target.release
    simulated = simulate(case, release, profile)
    differences = compare(case, simulated, observed, release)
    missing = _missing_hook(case, target, observed)
    return Result(case, target.name, observed, simulated, (*differences, *missing))


def tested(target: Target, result: Result, spec: str) -> Tested | None:
    """What the target turned out to be, for the report's header; None while it cannot be known."""
    seen, place = result.observed.provenance, spec.removeprefix("vm:")
    if result.observed.verdict in _DEAD:
        # to ask for the facts would boot another guest: the one that died has told enough
        if not seen.loader:
            return None
        made_of = (seen.kernel, seen.accelerator, seen.jit, seen.loader)
        return Tested(result.target, *made_of, should_throw(seen.kernel), spec=place)
    facts = target.facts
    made_of = (facts.release, facts.accelerator, seen.jit or facts.jit, facts.loader)
    return Tested(result.target, *made_of, facts.expects_throw, spec=place)


def run_cases(
    target: Target,
    cases: Sequence[Case],
    *,
    profile: str = "",
    scale: float = 1.0,
    retries: int = 0,
    attempt: Callable[[Case], None] = lambda _: None,
) -> Iterator[Result]:
    """A result for each case, as it comes. A lost machine loses the rest, each with the cause.

    `attempt` is told of each case before it runs, and after the results before it.
    """
    deadline = Deadline((RUN_TIMEOUT_S + RUN_TIMEOUT_PER_CASE_S * len(cases)) * scale)
    lost: MachineLostError | None = None
    last: Result | None = None
    deaths = 0
    for case in cases:
        if last is not None:
            yield last
            deaths, last = deaths_in_a_row(deaths, last), None
        lost = lost or _given_up(deadline, deaths)
        if lost is not None:
            yield lost_result(case, target.name, lost)
            continue
        attempt(case)
        try:
            last = judge(case, target, profile, retries=retries)
        except UsageError as error:
            # a mistake in one case (an input that its hook cannot take) fails that case only
            last = _mistaken(case, target, error)
        except MachineLostError as error:
            lost = error
            yield lost_result(case, target.name, error)
        except WorldError as error:
            # an agent that fails over one case is no reason to give up the machine
            last = lost_result(case, target.name, error)
    if last is not None:
        yield _with_leaks(last, target)


def deaths_in_a_row(before: int, result: Result) -> int:
    """Cases in a row that no guest outlived; those that are said to crash are no surprise."""
    if result.observed.verdict not in _DEAD:
        return 0
    return before if result.case.crashes else before + 1


def _given_up(deadline: Deadline, deaths: int) -> MachineLostError | None:
    if deadline.over:
        return MachineLostError(f"the run took longer than {deadline.seconds:.0f} s")
    return dying(deaths)


def dying(deaths: int) -> MachineLostError | None:
    """Why a kernel is given up after so many deaths in a row; None while it is not."""
    if deaths < DEATHS_MAX:
        return None
    return MachineLostError(
        f"{deaths} cases in a row crashed, hung or lost their guest: the rest is not run",
        fix="look at the first of them; leave out by -k what this kernel does not survive",
    )


def _missing_hook(case: Case, target: Target, observed: Observation) -> tuple[Difference, ...]:
    # Skipping every live case of a kernel that should have the hook would look like a good run.
    feature = HOOKS[case.hook].needs
    because = feature and observed.message.startswith(f"{feature}:")
    if observed.verdict is not Verdict.UNSUPPORTED or not because:
        return ()
    if not target.facts.expects_throw:
        return ()
    rule = "a kernel that should have exceptions has this hook, too"
    return (Difference("verdict", "ran", observed.message, rule, ("invariant", "kernel")),)


def _mistaken(case: Case, target: Target, error: UsageError) -> Result:
    provenance = Provenance(source=target.name, kernel=target.release)
    # others wrote that case: it wants what this machine's libbpf or kernel does not know
    verdict = Verdict.UNSUPPORTED if case.loading.alone else Verdict.REJECTED
    observed = Observation(verdict, message=error.message, provenance=provenance)
    if case.loading.alone:
        return Result(case, target.name, observed)
    rule = "the case can be run as it is written"
    wrong = Difference("case", "can run", str(error), rule, ("invariant", "kernel"))
    return Result(case, target.name, observed, None, (wrong,))


def lost_result(case: Case, target: str, error: WorldError) -> Result:
    """The result of a case on a machine that is not there."""
    observed = Observation(
        Verdict.LOST,
        message=str(error),
        log=error.evidence,
        provenance=Provenance(source=target),
    )
    return Result(case, target, observed)


def _with_leaks(last: Result, target: Target) -> Result:
    # What stays after everything was unloaded belongs to nobody in particular; it must be seen.
    try:
        leaks = target.finish()
    except WorldError as error:
        # the check could not run: that is no leak, and must not look clean either
        return last if last.differences else lost_result(last.case, last.target, error)
    found = tuple(
        Difference(
            "leaks",
            "nothing",
            leak,
            "after everything is unloaded, nothing is left",
            ("invariant", "kernel"),
        )
        for leak in leaks
    )
    return dataclasses.replace(last, differences=(*last.differences, *found))
