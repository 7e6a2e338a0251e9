# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow run`: the main job. Arguments, progress and reports; the work is in run.py."""

import argparse
import dataclasses
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from harness import build, config, suite, tools
from harness import run as pipeline
from harness.errors import BpfthrowError, Exit, UsageError
from harness.hooks import HOOKS
from harness.kernels import catalogue, root, spec, store
from harness.model import Case, Result
from harness.report import detail, document, junit, table
from harness.report.outcome import Outcome, RunHeader, Tested, exit_code, outcome
from harness.report.progress import Progress
from harness.report.style import style_for
from harness.target.base import Target, open_target

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name

_SETTINGS = tuple(s.name for s in config.TABLE if s.name != "json")
_EPILOG = """\
examples:
  bpfthrow run                                   everything in progs/ on the default kernel
  bpfthrow run progs/throw -k 'static and not tail' --hook test_run
  bpfthrow run my.bpf.c --kernel 6.12 --kernel 7.3 --json out.json --junit out.xml
  bpfthrow run --kernel all --jobs 2
"""
# differences that are printed in full; the rest is in the JSON
_DETAILS = 20


def add_parser(subparsers: "Subparsers") -> None:
    """Add the verb to the command line's tree."""
    parser = subparsers.add_parser(
        "run",
        help="run cases on real kernels and in the simulator, and compare",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help=".bpf.c, .bpf.o or directory (default: progs/)"
    )
    parser.add_argument("-k", dest="expression", default="", metavar="EXPR", help="select cases")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--list", action="store_true", help="print the cases, run nothing")
    parser.add_argument("-q", "--quiet", action="store_true", help="no line per case")
    config.add_arguments(parser, [*_SETTINGS, "json"])


@dataclasses.dataclass(slots=True)
class _Run:
    """One target's share of a run, in a thread of its own."""

    spec: str
    settings: config.Settings
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
        with open_target(self.spec, self.settings) as target:
            self.target = target
            cases = self.cases.result()
            profile, scale = self.settings.profile, self.settings.timeout_scale
            ahead = threading.Thread(
                target=pipeline.simulate_ahead, args=(cases, target.release, profile)
            )
            ahead.start()
            for result in pipeline.run_cases(target, cases, profile=profile, scale=scale):
                self._learn(target, result)
                yield result
            ahead.join()

    def _learn(self, target: Target, result: Result) -> None:
        if self.tested is None and outcome(result) is not Outcome.LOST:
            facts, own = target.facts, result.observed.provenance
            self.tested = Tested(
                target.name,
                facts.release,
                facts.accelerator,
                own.jit or facts.jit,
                facts.loader,
                facts.expects_throw,
                spec=self.spec.removeprefix("vm:"),
            )


def run(arguments: argparse.Namespace) -> int:
    """Run the cases and report; the exit code."""
    began = time.monotonic()
    settings = config.resolve(arguments)
    unknown = sorted(set(settings.hook) - set(HOOKS))
    if unknown:
        raise UsageError(f"unknown hook {unknown[0]!r}", fix="known: " + ", ".join(HOOKS))
    if arguments.list:
        for case in _select(arguments, settings):
            print(f"{case.id} {case.hook}")
        return Exit.OK
    runs, results = _run_all(_specs(settings), arguments, settings)
    tested = tuple(each.tested for each in runs if each.tested)
    header = RunHeader(tested, clang=_clang(), seconds=time.monotonic() - began)
    results = [_with_trace(result, settings.profile) for result in results]
    _report(results, header, settings)
    return exit_code(results, header)


def _specs(settings: config.Settings) -> list[str]:
    if settings.target != "vm":
        if settings.kernel:
            raise UsageError(
                f"--kernel does not go with --target {settings.target}: it has its own kernel"
            )
        return [settings.target]
    known = catalogue.load()
    wanted = settings.kernel or ("default",)
    expanded = [name for each in wanted for name in (spec.names(each, known) or [each])]
    return [f"vm:{name}" for name in dict.fromkeys(expanded)]


def _select(arguments: argparse.Namespace, settings: config.Settings) -> list[Case]:
    cases = suite.select(suite.collect(arguments.paths), arguments.expression)
    if settings.hook:
        cases = [case for case in cases if case.hook in settings.hook]
    if not cases:
        raise UsageError("no case is left to run", fix="see them all: bpfthrow run --list")
    return cases


def _run_all(
    specs: Sequence[str], arguments: argparse.Namespace, settings: config.Settings
) -> tuple[list[_Run], list[Result]]:
    out: queue.Queue[tuple[_Run, Result | Exception | None]] = queue.Queue()
    cases: Future[list[Case]] = Future()
    stop = threading.Event()
    runs = [_Run(each, settings, cases, out, stop) for each in specs]
    # Guests boot while objects are compiled and read; but a mistake must not wait for a download.
    chosen = [] if _at_hand(specs) else _select(arguments, settings)
    with ThreadPoolExecutor(max(1, min(arguments.jobs, len(runs)))) as pool:
        try:
            for each in runs:
                pool.submit(each)
            chosen = chosen or _select(arguments, settings)
            progress = Progress(sys.stderr, len(chosen) * len(runs))
            progress.note(f"{len(chosen)} cases on {', '.join(specs)}")
            cases.set_result(chosen)
            results = _gather(runs, out, None if arguments.quiet else progress)
        except BaseException as error:
            stop.set()
            if not cases.done():
                cases.set_exception(UsageError(f"no cases: {error}"))
            for each in runs:
                each.abort()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return runs, results


def _at_hand(specs: Sequence[str]) -> bool:
    known = catalogue.load()
    wanted = [each.removeprefix("vm:") for each in specs]
    return root.cached_root() is not None and all(
        name in known.entries and store.newest_cached(known, name) for name in wanted
    )


def _gather(
    runs: Sequence[_Run],
    out: "queue.Queue[tuple[_Run, Result | Exception | None]]",
    progress: Progress | None,
) -> list[Result]:
    results: dict[str, list[Result]] = {each.spec: [] for each in runs}
    failures: list[Exception] = []
    left = len(runs)
    while left:
        which, item = out.get()
        if item is None:
            left -= 1
        elif isinstance(item, Exception):
            failures.append(item)
        else:
            results[which.spec].append(item)
            if progress:
                progress.result(item)
    if failures:
        # one target that cannot be had must not look like a smaller matrix
        raise failures[0]
    return [result for each in runs for result in results[each.spec]]


def _clang() -> str:
    try:
        return tools.run([build.find_clang(), "--version"]).splitlines()[0]
    except BpfthrowError:
        return ""  # nothing was compiled: only objects were given


def _with_trace(result: Result, profile: str) -> Result:
    if not result.differences or result.simulated is None:
        return result
    trace = pipeline.traced(result.case, result.observed.provenance.kernel, profile)
    return dataclasses.replace(result, simulated=dataclasses.replace(result.simulated, trace=trace))


def _report(results: Sequence[Result], header: RunHeader, settings: config.Settings) -> None:
    style = style_for(sys.stdout)
    differing = [result for result in results if result.differences]
    print(table.render(results, header, style))
    for result in differing[:_DETAILS]:
        print(f"\n{detail.detail(result, header)}")
    if len(differing) > _DETAILS:
        print(f"\n({len(differing) - _DETAILS} more differences: --json FILE has them all)")
    for text in detail.losses(results):
        print(f"\n{text}")
    if settings.json:
        document.write(settings.json, document.dumps(results))
    if settings.junit:
        document.write(settings.junit, junit.junit(results, header))
