# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where oracles disagree about a case: the declared expectation, the simulator, the kernel.

Owns the table of what must match. Does not run anything and does not print. JIT, accelerator,
durations and log texts are never compared.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness import logmatch
from harness.hooks import HOOKS, Action, meaning
from harness.model import Case, Difference, Expectation, Observation, Verdict
from harness.series import series_of

Pair = tuple[str, str]
# path, expected, observed
Item = tuple[str, str, str]

DECLARED_KERNEL: Pair = ("declared", "kernel")
DECLARED_SIMULATOR: Pair = ("declared", "simulator")
SIMULATOR_KERNEL: Pair = ("simulator", "kernel")
LOG_KERNEL: Pair = ("kernel log", "kernel")
# what holds for every case, whoever wrote it
INVARIANT_KERNEL: Pair = ("invariant", "kernel")
# the verdicts after which there is something to hold against an expectation
REACHED = (Verdict.RAN, Verdict.REJECTED)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the rules look at."""

    case: Case
    # None where the simulator has no say
    simulated: Observation | None
    observed: Observation
    expected: Expectation

    @property
    def live(self) -> bool:
        return HOOKS[self.case.hook].live


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: what must match, when, and why."""

    between: Pair
    applies: Callable[[Seen], bool]
    # yields the places that must match; only those that differ are reported
    items: Callable[[Seen], Iterator[Item]]
    text: str


def compare(
    case: Case, simulated: Observation | None, observed: Observation, kernel_release: str
) -> tuple[Difference, ...]:
    """Every place where two oracles disagree; empty when all agree or nothing could be seen.

    `kernel_release` (uname -r) selects the expectations of its series. A lost machine and an
    absent feature are no difference: Result.agree is false for them all the same.
    """
    seen = Seen(
        case=case,
        simulated=simulated if has_say(simulated) else None,
        observed=observed,
        expected=expectation_for(case, kernel_release),
    )
    return tuple(
        Difference(path, expected, value, rule.text, rule.between)
        for rule in RULES
        if rule.applies(seen)
        for path, expected, value in rule.items(seen)
        if expected != value
    )


def has_say(simulated: Observation | None) -> bool:
    """Whether the simulator answered at all: an unknown helper leaves it without a say, and so
    does an answer that is one of several right ones.
    """
    return (
        simulated is not None
        and simulated.verdict is not Verdict.UNSUPPORTED
        and not simulated.doubts
    )


def expectation_for(case: Case, kernel_release: str) -> Expectation:
    """What the case declares for this kernel: the series' own fields over the general ones."""
    general = case.expectation
    special = dict(case.per_series).get(series_of(kernel_release))
    if special is None:
        return general
    if None not in (general.verdict, special.verdict) and special.verdict is not general.verdict:
        return special  # words of a refusal say nothing of a run
    fields = {
        field.name: value
        for field in dataclasses.fields(Expectation)
        if (value := getattr(special, field.name)) not in (None, ())
    }
    return dataclasses.replace(general, **fields)


def expected_verdict(expected: Expectation) -> Verdict:
    """The declared verdict; without one, a declared errno or message means a refusal."""
    if expected.verdict is not None:
        return expected.verdict
    return Verdict.REJECTED if expected.errno or expected.messages else Verdict.RAN


def number(value: int | None) -> str:
    """A return value as text: decimal, and hexadecimal where that says more."""
    if value is None:
        return "none"
    low = value & 0xFFFFFFFF
    if low >= 0x80000000:
        return f"{low:#x} ({low - (1 << 32)})"
    return f"{low}" if low < 4096 else f"{low} ({low:#x})"


def _always(_: Seen) -> bool:
    return True


def _fatal(seen: Seen) -> bool:
    return seen.observed.verdict in (Verdict.CRASHED, Verdict.HUNG)


def _reached(seen: Seen) -> bool:
    return seen.observed.verdict in REACHED


def _rejected(seen: Seen) -> bool:
    return (
        seen.observed.verdict is Verdict.REJECTED
        and expected_verdict(seen.expected) is Verdict.REJECTED
    )


def _log_read(seen: Seen) -> bool:
    # of what loads only the kernel's loader asks a log
    asked = _rejected(seen) or (_ran(seen) and seen.case.loading.alone)
    return asked and seen.observed.verdict is expected_verdict(seen.expected)


def _ran(seen: Seen) -> bool:
    return seen.observed.verdict is Verdict.RAN


def _both(seen: Seen) -> bool:
    """The kernel ran it and the simulator has a say."""
    return _ran(seen) and seen.simulated is not None


def _both_ran(seen: Seen) -> bool:
    # on the hook "load" nothing runs: there are no values and no side effects to compare
    loaded_only = seen.case.hook == "load"
    return _both(seen) and not loaded_only and _simulated(seen).verdict is Verdict.RAN


def _simulated(seen: Seen) -> Observation:
    assert seen.simulated is not None
    return seen.simulated


def _test_run(condition: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
    return lambda seen: condition(seen) and not seen.live


def _live(condition: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
    return lambda seen: condition(seen) and seen.live


def _survival(seen: Seen) -> Iterator[Item]:
    yield "verdict", str(expected_verdict(seen.expected)), _explained(seen.observed)


def _declared_verdict(seen: Seen) -> Iterator[Item]:
    wanted, verdict = expected_verdict(seen.expected), seen.observed.verdict
    observed = str(verdict) if wanted is verdict else _explained(seen.observed)
    yield "verdict", str(wanted), observed


def _simulated_verdict(seen: Seen) -> Iterator[Item]:
    simulated = _simulated(seen)
    ran = simulated.verdict is Verdict.RAN
    yield "verdict", "ran" if ran else _explained(simulated), str(seen.observed.verdict)


def _explained(observation: Observation) -> str:
    message = f": {observation.message}" if observation.message else ""
    return observation.verdict + message


def _errno(seen: Seen) -> Iterator[Item]:
    if seen.expected.errno is not None:
        yield "errno", str(seen.expected.errno), str(seen.observed.errno)


def _messages(seen: Seen) -> Iterator[Item]:
    log = seen.observed.log or seen.observed.message
    for index in logmatch.missing(seen.expected.messages, log):
        yield f"messages[{index}]", seen.expected.messages[index], seen.observed.message


def _unwanted(seen: Seen) -> Iterator[Item]:
    log = seen.observed.log or seen.observed.message
    unwanted = seen.expected.unwanted
    for index in logmatch.present(unwanted, seen.expected.messages, log):
        yield f"unwanted[{index}]", f"no {unwanted[index][1]}", "in the log"


def _each(name: str, left: tuple[str, ...], right: tuple[str, ...]) -> Iterator[Item]:
    for index, (one, other) in enumerate(itertools.zip_longest(left, right, fillvalue="none")):
        yield f"{name}[{index}]", one, other


def _numbers(observation: Observation) -> tuple[str, ...]:
    return tuple(map(number, observation.retvals))


def _retvals(seen: Seen) -> Iterator[Item]:
    yield from _each("retvals", _numbers(_simulated(seen)), _numbers(seen.observed))


def _wire(seen: Seen) -> Iterator[Item]:
    simulated = _simulated(seen)
    # a simulator that knows values only: the hook's table says what the wire must show
    values = tuple(str(meaning(seen.case.hook, value)) for value in simulated.retvals)
    yield from _each("wire", simulated.wire or values, seen.observed.wire)


def _declared_retval(seen: Seen) -> Iterator[Item]:
    if seen.expected.retval is not None:
        yield "retval", number(seen.expected.retval), number(seen.observed.retval)


def _declared_retval_simulated(seen: Seen) -> Iterator[Item]:
    if seen.expected.retval is not None:
        yield "retval", number(seen.expected.retval), number(_simulated(seen).retval)


def _declared_wire(seen: Seen) -> Iterator[Item]:
    retval = seen.expected.retval
    if retval is None:
        return
    # a declared code does not say whether a redirect had a target: both are allowed
    allowed = [str(meaning(seen.case.hook, retval, redirect_set=s)) for s in (False, True)]
    last = seen.observed.wire[-1] if seen.observed.wire else "none"
    wanted = last if last in allowed else " or ".join(sorted(set(allowed)))
    yield f"wire[{max(0, len(seen.observed.wire) - 1)}]", wanted, last


def _data_out(seen: Seen) -> Iterator[Item]:
    left, right = _simulated(seen).data_out, seen.observed.data_out
    required = not seen.live and seen.case.input.packet is not None
    if seen.live and left is not None and seen.observed.wire:
        # a frame that arrived must have been kept
        required = seen.observed.wire[-1] in (Action.PASS, Action.TX, Action.REDIRECT)
    if required or (left is not None and right is not None):
        yield "data_out", _hex(left), _hex(right)


def _hex(data: bytes | None) -> str:
    return "none" if data is None else f"{len(data)} bytes {data.hex()}"


def _maps(seen: Seen) -> Iterator[Item]:
    left, right = _simulated(seen).maps, seen.observed.maps
    for name in sorted(set(left) | set(right)):
        one, other = left.get(name, {}), right.get(name, {})
        for key in sorted(set(one) | set(other)):
            yield _map_path(name, key), one.get(key, "absent"), other.get(key, "absent")


def _map_path(name: str, key: str) -> str:
    return f"globals.{key}" if name.startswith(".") else f"maps.{name}[{key}]"


def _globals_of(source: Callable[[Seen], Observation]) -> Callable[[Seen], Iterator[Item]]:
    def items(seen: Seen) -> Iterator[Item]:
        for name, value in seen.expected.globals:
            data = _find_global(source(seen), name)
            if data is None:
                yield f"globals.{name}", str(value), "absent"
                continue
            width = 8 * len(data)
            found = int.from_bytes(data, "little")
            yield f"globals.{name}", str(value % (1 << width)), str(found)

    return items


def _find_global(observation: Observation, name: str) -> bytes | None:
    for section, variables in observation.maps.items():
        if section.startswith(".") and name in variables:
            return bytes.fromhex(variables[name])
    return None


def _splats(seen: Seen) -> Iterator[Item]:
    for index, splat in enumerate(seen.observed.splats):
        yield f"splats[{index}]", "none", splat


def _leaks(seen: Seen) -> Iterator[Item]:
    for index, leak in enumerate(seen.observed.leaks):
        yield f"leaks[{index}]", "none", leak


def _judges(seen: Seen) -> Iterator[Item]:
    expected = seen.expected
    # that something ran says nothing of what it did, except where loading is all there is, or where
    # the kernel's own test wants no more
    verdict_tells = seen.case.hook == "load" or expected.verdict is Verdict.REJECTED
    verdict_tells |= seen.case.loading.alone
    declared = expected.retval is not None or bool(expected.globals)
    declared |= verdict_tells and expected.verdict is not None
    if seen.simulated is None and not declared:
        yield "judged by", "the simulator or a tag of the program", "nothing judged this case"


RULES: tuple[Rule, ...] = (
    Rule(INVARIANT_KERNEL, _fatal, _survival, "the kernel survives every program it accepts"),
    Rule(DECLARED_KERNEL, _reached, _declared_verdict, "the load ends as declared"),
    Rule(SIMULATOR_KERNEL, _both, _simulated_verdict, "what the kernel ran, the simulator runs"),
    Rule(DECLARED_KERNEL, _rejected, _errno, "the load is refused with the declared errno"),
    Rule(DECLARED_KERNEL, _log_read, _messages, "the log holds the declared lines, in order"),
    Rule(DECLARED_KERNEL, _log_read, _unwanted, "the log holds no line that was excluded"),
    Rule(
        SIMULATOR_KERNEL,
        _test_run(_both_ran),
        _retvals,
        "every run returns what the simulator returns (unsigned 32-bit)",
    ),
    Rule(
        DECLARED_KERNEL,
        _test_run(_ran),
        _declared_retval,
        "the last run returns the declared value (unsigned 32-bit)",
    ),
    Rule(
        DECLARED_SIMULATOR,
        _test_run(_both_ran),
        _declared_retval_simulated,
        "the simulator's last run returns the declared value (unsigned 32-bit)",
    ),
    Rule(
        SIMULATOR_KERNEL,
        _live(_both_ran),
        _wire,
        "the wire shows what the simulator's return value means on this hook",
    ),
    Rule(
        DECLARED_KERNEL,
        _live(_ran),
        _declared_wire,
        "the wire shows what the declared return value means on this hook",
    ),
    Rule(SIMULATOR_KERNEL, _both_ran, _data_out, "the frame leaves with the same bytes"),
    Rule(SIMULATOR_KERNEL, _both_ran, _maps, "maps and globals hold the same bytes afterwards"),
    Rule(
        DECLARED_KERNEL,
        _ran,
        _globals_of(lambda seen: seen.observed),
        "a global variable ends with its declared value",
    ),
    Rule(
        DECLARED_SIMULATOR,
        _both_ran,
        _globals_of(_simulated),
        "in the simulator a global variable ends with its declared value",
    ),
    Rule(LOG_KERNEL, _always, _splats, "a case leaves no warning and no oops in the kernel log"),
    Rule(INVARIANT_KERNEL, _always, _leaks, "a case leaves no program, map or link behind"),
    Rule(INVARIANT_KERNEL, _ran, _judges, "somebody must say what is right"),
)
