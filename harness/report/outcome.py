# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a list of results amounts to: classes, counts, notes, the exit code.

The one place that decides what counts as what; table, JSON, JUnit and pytest all ask here.
Prints nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.compare import has_say
from harness.errors import Exit
from harness.hooks import HOOKS
from harness.model import Observation, Result, Verdict


class Outcome(StrEnum):
    """The class of one result; each result has exactly one."""

    AGREE = "agree"
    DIFFER = "differ"
    UNSUPPORTED = "unsupported"
    CRASHED = "crashed"
    HUNG = "hung"
    # failed, and did not when tried again
    FLAKY = "flaky"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Tested:
    """What one target turned out to be."""

    name: str
    release: str = ""
    accelerator: str = ""
    jit: str = ""
    loader: str = ""
    # False for a negative control: a kernel known not to have bpf_throw
    expects_throw: bool = True
    # what to write after --kernel or --target, where the name does not say it
    spec: str = ""
    # from the first case to the last; 0.0: not measured
    seconds: float = 0.0

    def facts(self) -> str:
        """Release, accelerator, JIT and loader, those that are known."""
        # values of net.core.bpf_jit_enable
        words = {"0": "off", "1": "on", "2": "on (debug)"}
        jit = f"JIT {words.get(self.jit, self.jit)}" if self.jit else ""
        known = [fact for fact in (self.release, self.accelerator, jit, self.loader) if fact]
        return ", ".join(known)


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What was tested, for the top and the bottom of every report."""

    targets: tuple[Tested, ...] = ()
    # "clang version 19.1.7", or "" where nothing was compiled
    clang: str = ""
    seconds: float = 0.0
    # when it began, ISO 8601 with the zone; "": not known
    began: str = ""

    def target(self, name: str) -> Tested:
        """The target of that name; an empty record for one that never came up."""
        return next((t for t in self.targets if t.name == name), Tested(name))


_FATAL = {
    Verdict.CRASHED: Outcome.CRASHED,
    Verdict.HUNG: Outcome.HUNG,
    Verdict.LOST: Outcome.LOST,
}


# what fails a run
FAILURES = frozenset({Outcome.DIFFER, Outcome.CRASHED, Outcome.HUNG, Outcome.FLAKY})
_GOOD = frozenset({Outcome.AGREE, Outcome.UNSUPPORTED})


def outcome(result: Result) -> Outcome:
    """The class of a result. An unsupported case with a kernel splat differs.

    A result is its first attempt's: a second one without a failure only makes it flaky.
    """
    if result.again is not None and outcome(result.again) in _GOOD:
        return Outcome.FLAKY
    verdict = result.observed.verdict
    if verdict in _FATAL:
        return _FATAL[verdict]
    if result.differences:
        return Outcome.DIFFER
    return Outcome.UNSUPPORTED if verdict is Verdict.UNSUPPORTED else Outcome.AGREE


# keys of summary(), in their order
SUMMARY = (
    "cases", "agree", "differ", "rejected", "unsupported", "crashed", "hung", "flaky", "lost"
)  # fmt: skip


def summary(results: Iterable[Result]) -> dict[str, int]:
    """Counts for the JSON's "summary": cases is the sum of all others except `rejected`.

    `rejected` counts refused loads, as declared (they agree) or not (they differ).
    """
    counts = dict.fromkeys(SUMMARY, 0)
    for result in results:
        counts["cases"] += 1
        counts[outcome(result)] += 1
        counts["rejected"] += result.observed.verdict is Verdict.REJECTED
    return counts


def targets_of(results: Iterable[Result]) -> tuple[str, ...]:
    """Names of the targets, in the order of their first result."""
    return tuple(dict.fromkeys(result.target for result in results))


def nothing_ran(results: Sequence[Result], header: RunHeader) -> tuple[str, ...]:
    """Targets on which every case was unsupported although the kernel should have exceptions."""
    return tuple(
        name
        for name in targets_of(results)
        if header.target(name).expects_throw
        and all(outcome(r) is Outcome.UNSUPPORTED for r in results if r.target == name)
    )


def exit_code(results: Sequence[Result], header: RunHeader) -> Exit:
    """0 all agree, 1 one of FAILURES or a suite that ran nothing, 128 a lost machine.

    A difference found beats a machine lost. No result at all is 128: nobody had a machine.
    """
    outcomes = {outcome(result) for result in results}
    if outcomes & FAILURES:
        return Exit.DIFFERENCE
    if Outcome.LOST in outcomes or not results:
        return Exit.LOST
    return Exit.DIFFERENCE if nothing_ran(results, header) else Exit.OK


def value(observation: Observation, hook: str) -> str:
    """A cell: what was returned, what the wire saw, or how else it ended."""
    if observation.verdict in (Verdict.CRASHED, Verdict.HUNG, Verdict.LOST):
        return observation.verdict.upper()
    if observation.verdict is not Verdict.RAN:
        return str(observation.verdict)
    if hook == "load":
        return "loaded"
    if HOOKS[hook].live and observation.wire:
        return _compact(observation.wire)
    return _compact([_short(number) for number in observation.retvals]) or "ran"


def simulated_value(result: Result) -> str:
    """The simulator's cell: "-" where it was not asked, "no say" where it does not know."""
    if result.simulated is None:
        return "-"
    if not has_say(result.simulated):
        return "no say"
    return value(result.simulated, result.case.hook)


def _short(number: int) -> str:
    low = number & 0xFFFFFFFF
    return str(low) if low < 100_000 else f"{low:#x}"


def _compact(values: Sequence[str]) -> str:
    if len(values) > 1 and len(set(values)) == 1:
        return f"{values[0]} x{len(values)}"
    shown = ",".join(values[:3])
    return f"{shown},.." if len(values) > 3 else shown


def first_line(text: str, limit: int = 160) -> str:
    """First line of `text`, cut to `limit` characters."""
    line = text.split("\n", 1)[0]
    return line if len(line) <= limit else line[: limit - 3] + "..."


def notes(results: Sequence[Result], header: RunHeader) -> list[str]:
    """One line for each difference; one for each distinct reason why something has no verdict."""
    lines = [
        f"{_name(result)}: {item.path}: {item.between[0]} {first_line(item.expected)},"
        f" {item.between[1]} {first_line(item.observed)}"
        for result in results
        for item in result.differences
    ]
    lines += [
        f"{_name(result)}: {outcome(result)}: {again(result)}"
        for result in results
        if result.again is not None
    ]
    return lines + reasons(results, header)


def reasons(results: Sequence[Result], header: RunHeader) -> list[str]:
    """One line for each distinct reason why something has no verdict."""
    lines = _grouped(
        (result.target, str(result.observed.verdict), first_line(result.observed.message))
        for result in results
        if outcome(result) in (Outcome.UNSUPPORTED, Outcome.LOST)
    )
    lines += _grouped(
        ("simulator", "without a say", first_line(result.simulated.message))
        for result in results
        if result.simulated is not None and not has_say(result.simulated)
    )
    lines += _grouped(
        ("tags", "left out", why)
        for case in dict.fromkeys(result.case for result in results)
        for why in case.left_out
    )
    lines += [
        f"{name}: every case was unsupported, yet this kernel should have exceptions"
        for name in nothing_ran(results, header)
    ]
    return lines


def headline(result: Result) -> str:
    """Why a result is not good, in one line: its first difference, or how it ended."""
    if not result.differences:
        said = first_line(result.observed.message)
        return f"{result.observed.verdict}: {said}" if said else str(result.observed.verdict)
    item = result.differences[0]
    left, right = item.between
    return f"{item.path}: {left} {first_line(item.expected)}, {right} {first_line(item.observed)}"


def again(result: Result) -> str:
    """What became of a failed case when it was tried again; "" where it was not."""
    if result.again is None:
        return ""
    seen = result.again.observed
    how = "without a difference" if outcome(result.again) in _GOOD else "a failure again"
    return f"in a fresh guest: {value(seen, result.case.hook)}, {how}"


def _name(result: Result) -> str:
    return f"{result.case.id} [{result.case.hook}] {result.target}"


def _grouped(keys: Iterable[tuple[str, str, str]]) -> list[str]:
    counts: dict[tuple[str, str, str], int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    return [
        f"{who}: {n} {what}: {why or 'no reason given'}" for (who, what, why), n in counts.items()
    ]


def verdict_line(results: Sequence[Result], header: RunHeader) -> str:
    """The last line of a report."""
    counts = summary(results)
    parts = [
        f"{counts[key]} {key}"
        for key in ("agree", "differ", "crashed", "hung", "flaky", "lost", "unsupported")
        if counts[key] or key in ("agree", "differ")
    ]
    took = f" in {header.seconds:.1f} s" if header.seconds else ""
    return f"{counts['cases']} results{took}: {', '.join(parts)}"
