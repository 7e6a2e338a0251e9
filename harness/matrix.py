# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""All chosen cases on all chosen targets at once: threads, progress, reports.

The verb's second half: what it imports takes as long as the first second of a boot. The pipeline of
one target is run.py's business.
"""

import argparse
import dataclasses
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from harness import annotate, build, config, kernels, suite, tools
from harness import run as pipeline
from harness.compare import has_say
from harness.errors import BpfthrowError, Exit, UsageError
from harness.model import Case, Result
from harness.report import artifacts, detail, document, junit, table
from harness.report.outcome import RunHeader, Tested, exit_code
from harness.report.progress import Progress
from harness.report.style import style_for
from harness.sim import semantics
from harness.target import boot
from harness.target.base import Target, open_target
from harness.target.boot import Begun

# differences that are printed in full; the rest is in the JSON
_DETAILS = 20


@dataclasses.dataclass(slots=True)
class _Run:
    """One target's share of a run, in a thread of its own."""

    spec: str
    settings: config.Settings
    # the guest, where it boots already
    begun: Begun | None
    # known a little after the guest began to boot
    cases: "Future[list[Case]]"
    # results, then None; an error that ended it comes before the None
    out: "queue.Queue[tuple[_Run, Result | Exception | None]]"
    stop: threading.Event
    target: Target | None = None
    tested: Tested | None = None

    def __call__(self) -> None:
        """Run all cases; whatever happens, the queue hears of the end."""
        try:
            for result in self._results():
                self.out.put((self, result))
                if self.stop.is_set():
                    break
        except Exception as error:  # noqa: BLE001  # raised again in the main thread
            self.out.put((self, error))
        finally:
            self.out.put((self, None))

    def abort(self) -> None:
        """From another thread: end what is running."""
        if self.target is not None:
            self.target.abort()

    def _results(self) -> Iterator[Result]:
        with open_target(self.spec, self.settings, self.begun) as target:
            self.target = target
            cases = self.cases.result()
            profile, scale = self.settings.profile, self.settings.timeout_scale
            ahead = threading.Thread(
                target=pipeline.simulate_ahead, args=(cases, target.release, profile)
            )
            ahead.start()
            retries = self.settings.retries
            for result in pipeline.run_cases(
                target, cases, profile=profile, scale=scale, retries=retries
            ):
                self.tested = self.tested or pipeline.tested(target, result, self.spec)
                yield result
            ahead.join()


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


def list_cases(plan: Plan) -> int:
    """Print the chosen cases; the exit code."""
    for case in _select(plan):
        print(f"{case.id} {case.hook}")
    return Exit.OK


def run(plan: Plan, started: Mapping[str, Begun]) -> int:
    """Run the cases and report; the exit code. `started`: guests that boot already, by spec."""
    if plan.settings.profile:
        semantics.profile(plan.settings.profile)  # a name that nobody knows ends here
    shares = run_all(plan, started)
    header = header_of(plan, shares)
    found = [result for share in shares for result in share.results]
    results = [_with_trace(result, plan.settings.profile) for result in found]
    _report(results, header, plan.settings)
    if getattr(plan.arguments, "annotate", None):
        marks = annotate.annotations(results, header, plan.settings.profile)
        for line in annotate.github(marks, annotate.workspace()):
            print(line)
    return exit_code(results, header)


def header_of(plan: Plan, shares: Sequence[Share]) -> RunHeader:
    """What was tested, for a report."""
    tested = tuple(share.tested for share in shares if share.tested)
    return RunHeader(tested, clang=_clang(), seconds=time.monotonic() - plan.began_s)


def _select(plan: Plan) -> list[Case]:
    cases = suite.select(suite.collect(plan.arguments.paths), plan.arguments.expression)
    if plan.settings.hook:
        cases = [case for case in cases if case.hook in plan.settings.hook]
    if not cases:
        raise UsageError("no case is left to run", fix="see them all: bpfthrow run --list")
    return cases


def run_all(plan: Plan, started: Mapping[str, Begun]) -> list[Share]:
    """Run the chosen cases on every target of the plan; one share for each, in its order."""
    out: queue.Queue[tuple[_Run, Result | Exception | None]] = queue.Queue()
    cases: Future[list[Case]] = Future()
    stop = threading.Event()
    runs = [
        _Run(each, plan.settings_of(each), started.get(each), cases, out, stop)
        for each in plan.specs
    ]
    # Guests boot while objects are compiled and read; but a mistake must not wait for a download,
    # and Ctrl-C ends one only in this thread.
    chosen = [] if started else _select(plan)
    if not started:
        _fetch(plan)
    with ThreadPoolExecutor(max(1, min(plan.arguments.jobs, len(runs)))) as pool:
        try:
            for each in runs:
                pool.submit(each)
            chosen = chosen or _select(plan)
            progress = Progress(sys.stderr, len(chosen) * len(runs))
            progress.note(f"{len(chosen)} cases on {', '.join(plan.specs)}")
            cases.set_result(chosen)
            results = _gather(runs, out, None if plan.arguments.quiet else progress)
        except BaseException as error:
            stop.set()
            if not cases.done():
                cases.set_exception(UsageError(f"no cases: {error}"))
            for each in runs:
                each.abort()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [Share(each.spec, each.tested, tuple(results[each.spec])) for each in runs]


def _fetch(plan: Plan) -> None:
    for each in plan.specs:
        if each.startswith("vm:"):
            boot.machine_for(kernels.resolve(each.removeprefix("vm:")), plan.settings)


def _gather(
    runs: Sequence[_Run],
    out: "queue.Queue[tuple[_Run, Result | Exception | None]]",
    progress: Progress | None,
) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {each.spec: [] for each in runs}
    left = len(runs)
    while left:
        which, item = out.get()
        if item is None:
            left -= 1
        elif isinstance(item, Exception):
            # a target that cannot be had must not look like a smaller matrix
            raise item
        else:
            results[which.spec].append(item)
            if progress:
                progress.result(item)
    return results


def _clang() -> str:
    try:
        return tools.run([build.find_clang(), "--version"]).splitlines()[0]
    except BpfthrowError:
        return ""  # nothing was compiled: only objects were given


def _with_trace(result: Result, profile: str) -> Result:
    if not result.differences or result.simulated is None or not has_say(result.simulated):
        return result
    trace = pipeline.traced(result.case, result.observed.provenance.kernel, profile)
    return dataclasses.replace(result, simulated=dataclasses.replace(result.simulated, trace=trace))


def _report(results: Sequence[Result], header: RunHeader, settings: config.Settings) -> None:
    # files first: whoever reads the table may stop reading
    if settings.json:
        document.write(settings.json, document.dumps(results))
    if settings.junit:
        document.write(settings.junit, junit.junit(results, header))
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
