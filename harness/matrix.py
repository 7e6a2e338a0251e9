# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""All chosen cases on all chosen targets at once: threads, progress, reports.

The verb's second half: what it imports takes as long as the first second of a boot. The pipeline of
one target is run.py's business.
"""

import argparse
import dataclasses
import enum
import json
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

from harness import annotate, build, config, kernels, schedule, suite, tools
from harness import run as pipeline
from harness.errors import BpfthrowError, Exit, MachineLostError, UsageError
from harness.model import Case, Result
from harness.report import artifacts, detail, document, html, junit, markdown, table
from harness.report.board import Board, Display, Expected, display
from harness.report.outcome import RunHeader, Tested, exit_code
from harness.report.style import style_for
from harness.resume import Ledger, in_order
from harness.sim import semantics
from harness.target import boot
from harness.target.base import Target, open_target
from harness.target.boot import Begun

# differences that are printed in full; the rest is in the JSON
_DETAILS = 20
# a display that shows the time does not stand still for longer
_TICK_S = 1.0
# of a case, in the JSON of a list: named as in that of a run
_LISTED = ("id", "program", "object", "hook")


class _Event(enum.Enum):
    """What happens to a target beside results."""

    BEGUN = enum.auto()
    ENDED = enum.auto()


@dataclasses.dataclass(slots=True)
class _Run:
    """One target's share of a run, in a thread of its own."""

    spec: str
    settings: config.Settings
    # the guest, where it boots already
    begun: Begun | None
    # known a little after the guest began to boot
    cases: "Future[list[Case]]"
    # results between two events; an error that ended it comes before the second
    out: "queue.Queue[tuple[_Run, Result | Exception | _Event]]"
    stop: threading.Event
    # nobody else has a part in this run
    alone: bool
    ledger: Ledger
    target: Target | None = None
    tested: Tested | None = None
    # of an interrupted run
    earlier: list[Result] = dataclasses.field(default_factory=list)
    # each result with the seconds that the target was busy with it
    timed: list[tuple[Result, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def __call__(self) -> None:
        """Run all cases; whatever happens, the queue hears of the end."""
        self.out.put((self, _Event.BEGUN))
        began_s = time.monotonic()
        try:
            for result in self._results():
                self.out.put((self, result))
                if self.stop.is_set():
                    break
        except Exception as error:  # noqa: BLE001  # raised again in the main thread
            self.out.put((self, error))
        finally:
            self.seconds = time.monotonic() - began_s
            self.out.put((self, _Event.ENDED))

    def abort(self) -> None:
        """From another thread: end what is running."""
        if self.target is not None:
            self.target.abort()

    def _results(self) -> Iterator[Result]:
        self.ledger.open(self.spec)
        if self.ledger.record is not None:
            self.earlier = self.ledger.earlier(self.spec, self.cases.result())
            self.tested = self.ledger.tested(self.spec) if self.earlier else None
            yield from self.earlier
            if len(self.earlier) == len(self.cases.result()):
                return
        try:
            with open_target(self.spec, self.settings, self.begun) as target:
                self.target = target
                yield from self._results_of(target)
        except MachineLostError as error:
            if self.target is not None or self.alone:
                raise
            # one kernel whose guest does not even start: the others are worth a report
            for case in self._left():
                yield pipeline.lost_result(case, self.spec.replace(":", "-"), error)

    def _results_of(self, target: Target) -> Iterator[Result]:
        cases = self._left()
        profile, scale = self.settings.profile, self.settings.timeout_scale
        ahead = threading.Thread(
            target=pipeline.simulate_ahead, args=(cases, target.release, profile)
        )
        ahead.start()
        retries = self.settings.retries
        last_s = 0.0  # the first case waits for the boot
        for result in pipeline.run_cases(
            target,
            cases,
            profile=profile,
            scale=scale,
            retries=retries,
            attempt=lambda case: self.ledger.attempted(self.spec, case),
        ):
            self.tested = self.tested or pipeline.tested(target, result, self.spec)
            now_s = time.monotonic()
            self.timed.append((result, now_s - last_s if last_s else result.observed.duration_s))
            last_s = now_s
            self.ledger.result(self.spec, result, self.tested)
            yield result
        ahead.join()

    def _left(self) -> list[Case]:
        had = {(result.case.id, result.case.hook) for result in self.earlier}
        return [case for case in self.cases.result() if (case.id, case.hook) not in had]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    # of open_target()
    specs: Sequence[str]
    # as `bpfthrow run` takes them: paths, -k, -j, -q
    arguments: argparse.Namespace
    settings: config.Settings
    # time.monotonic() of the beginning
    began_s: float
    # simulator profile of single targets, by spec; the others have the settings'
    profiles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # where a run that may be interrupted writes down how far it is
    ledger: Ledger = dataclasses.field(default_factory=lambda: Ledger(None))

    def at_once(self) -> int:
        """How many targets run side by side."""
        jobs = self.arguments.jobs or schedule.at_once(
            len(self.specs), self.settings.cpus, self.settings.memory
        )
        return max(1, min(int(jobs), len(self.specs)))

    def settings_of(self, spec: str) -> config.Settings:
        """The settings that hold for one target."""
        profile = self.profiles.get(spec, self.settings.profile)
        return dataclasses.replace(self.settings, profile=profile)


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """What came of one target."""

    # as in Plan.specs
    spec: str
    # None where the target was never up
    tested: Tested | None
    results: tuple[Result, ...]
    # from the first case to the last
    seconds: float = 0.0


def list_cases(plan: Plan) -> int:
    """Print the chosen cases, and write them where --json was given; the exit code.

    A file that settings name is for results: a list must not take their place.
    """
    cases = _select(plan)
    if plan.settings.json and plan.settings.source("json") == "command line":
        rows = [{name: getattr(case, name) for name in _LISTED} for case in cases]
        listed = {"schema": document.SCHEMA, "cases": rows}
        document.write(plan.settings.json, json.dumps(listed, indent=1) + "\n")
    for case in cases:
        print(f"{case.id} {case.hook}")
    return Exit.OK


def run(plan: Plan, started: Mapping[str, Begun]) -> int:
    """Run the cases and report; the exit code. `started`: guests that boot already, by spec."""
    if plan.settings.profile:
        semantics.profile(plan.settings.profile)  # a name that nobody knows ends here
    shares = run_all(plan, started)
    header = header_of(plan, shares)
    found = [result for share in shares for result in share.results]
    results = [pipeline.with_trace(result, plan.settings.profile) for result in found]
    _report(results, header, plan.settings)
    if getattr(plan.arguments, "annotate", None):
        marks = annotate.annotations(results, header, plan.settings.profile)
        for line in annotate.github(marks, annotate.workspace()):
            print(line)
    return exit_code(results, header)


def header_of(plan: Plan, shares: Sequence[Share]) -> RunHeader:
    """What was tested, for a report."""
    tested = tuple(
        dataclasses.replace(share.tested, seconds=share.seconds) for share in shares if share.tested
    )
    seconds = time.monotonic() - plan.began_s
    began = datetime.now(UTC) - timedelta(seconds=seconds)
    return RunHeader(tested, _clang(), seconds, f"{began:%Y-%m-%d %H:%M} UTC")


def _select(plan: Plan) -> list[Case]:
    expect = getattr(plan.arguments, "expect", ())
    cases = suite.select(suite.collect(plan.arguments.paths, expect), plan.arguments.expression)
    if plan.settings.hook:
        cases = [case for case in cases if case.hook in plan.settings.hook]
    if not cases:
        raise UsageError("no case is left to run", fix="see them all: bpfthrow run --list")
    return cases


def run_all(plan: Plan, started: Mapping[str, Begun]) -> list[Share]:
    """Run the chosen cases on every target of the plan; one share for each, in its order."""
    out: queue.Queue[tuple[_Run, Result | Exception | _Event]] = queue.Queue()
    cases: Future[list[Case]] = Future()
    stop = threading.Event()
    alone = len(plan.specs) == 1
    runs = {
        each: _Run(
            each, plan.settings_of(each), started.get(each), cases, out, stop, alone, plan.ledger
        )
        for each in plan.specs
    }
    known = schedule.durations()
    jobs = plan.at_once()
    # Guests boot while objects are compiled and read; but a mistake must not wait for a download,
    # and Ctrl-C ends one only in this thread.
    chosen = [] if started else _select(plan)
    if not started:
        _fetch(plan)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for each in schedule.longest_first(plan.specs, known):
                pool.submit(runs[each])
            chosen = chosen or _select(plan)
            progress = display(
                sys.stderr, _expected(plan, chosen, known, jobs), quiet=plan.arguments.quiet
            )
            progress.note(_first_note(plan, len(chosen), jobs))
            cases.set_result(chosen)
            # other lines would tear the block to pieces
            board = isinstance(progress, Board)
            with tools.heard(progress.note) if board else nullcontext():
                results = _gather(runs, out, progress)
            progress.close()
        except BaseException as error:
            stop.set()
            if not cases.done():
                cases.set_exception(UsageError(f"no cases: {error}"))
            for run_ in runs.values():
                run_.abort()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    schedule.record({spec: run_.timed for spec, run_ in runs.items()})
    shares = [
        Share(spec, run_.tested, tuple(in_order(results[spec], chosen)), run_.seconds)
        for spec, run_ in runs.items()
    ]
    return list(_told_apart(shares))


def _told_apart(shares: Sequence[Share]) -> Iterator[Share]:
    """Two trees may be called alike; a report knows targets by their names only."""
    known: Counter[str] = Counter()
    for share in shares:
        name = share.results[0].target if share.results else share.spec
        known[name] += 1
        if known[name] == 1:
            yield share
            continue
        other = f"{name}-{known[name]}"
        tested = share.tested and dataclasses.replace(share.tested, name=other)
        results = tuple(dataclasses.replace(each, target=other) for each in share.results)
        yield dataclasses.replace(share, tested=tested, results=results)


def _expected(plan: Plan, cases: Sequence[Case], known: schedule.Durations, jobs: int) -> Expected:
    seconds = {each: schedule.expected_s(cases, known.get(each, {})) for each in plan.specs}
    return Expected(seconds, len(cases), jobs)


def _first_note(plan: Plan, cases: int, jobs: int) -> str:
    names = ", ".join(plan.specs)
    return f"{cases} cases on {names}" + (f", {jobs} at a time" if len(plan.specs) > jobs else "")


def _fetch(plan: Plan) -> None:
    for each in plan.specs:
        if each.startswith("vm:"):
            boot.machine_for(kernels.resolve(each.removeprefix("vm:")), plan.settings)


def _gather(
    runs: Mapping[str, _Run],
    out: "queue.Queue[tuple[_Run, Result | Exception | _Event]]",
    progress: Display,
) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {spec: [] for spec in runs}
    left = len(runs)
    while left:
        try:
            which, item = out.get(timeout=_TICK_S)
        except queue.Empty:
            progress.tick()
            continue
        if item is _Event.BEGUN:
            progress.begin(which.spec)
        elif item is _Event.ENDED:
            left -= 1
            progress.end(which.spec)
        elif isinstance(item, Exception):
            # a target that cannot be had must not look like a smaller matrix
            raise item
        elif isinstance(item, Result):
            results[which.spec].append(item)
            progress.result(which.spec, item)
    return results


def _clang() -> str:
    try:
        return tools.run([build.find_clang(), "--version"]).splitlines()[0]
    except BpfthrowError:
        return ""  # nothing was compiled: only objects were given


def _report(results: Sequence[Result], header: RunHeader, settings: config.Settings) -> None:
    # files first: whoever reads the table may stop reading
    unwritten = list(_write_files(results, header, settings))
    kept = artifacts.keep(results, settings.artifacts)
    style = style_for(sys.stdout)
    differing = [result for result in results if result.differences]
    print(table.render(results, header, style))
    for result in differing[:_DETAILS]:
        print(f"\n{detail.detail(result, header)}")
    if len(differing) > _DETAILS:
        print(f"\n({len(differing) - _DETAILS} more differences: --json FILE has them all)")
    for text in detail.losses(results):
        print(f"\n{text}")
    if kept:
        print(f"\n{kept} logs of cases without agreement: {settings.artifacts}")
    for error in unwritten[1:]:
        tools.say(error.message)
    if unwritten:
        raise unwritten[0]


_FILES: tuple[tuple[str, Callable[[Sequence[Result], RunHeader], str]], ...] = (
    ("json", document.dumps),
    ("junit", junit.junit),
    ("markdown", markdown.markdown),
    ("html", html.page),
)


def _write_files(
    results: Sequence[Result], header: RunHeader, settings: config.Settings
) -> Iterator[BpfthrowError]:
    """Write the reports that were asked for; why one could not be written."""
    for name, rendered in _FILES:
        path = getattr(settings, name)
        if path:
            try:
                document.write(path, rendered(results, header))
            except BpfthrowError as error:
                # minutes of work are not lost over a path
                yield error
