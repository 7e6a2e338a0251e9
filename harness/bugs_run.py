# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The programs of known bugs on every chosen machine: a fresh guest after each that did harm.

One thread for each machine, as many at once as wanted. Judging is harness.bugs' business.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from harness import bugs, kernels
from harness import run as pipeline
from harness.bugs import Bug, BugCase, Finding, Judgement
from harness.config import Settings
from harness.errors import BpfthrowError, MachineLostError
from harness.model import Case, Result
from harness.report.outcome import Tested
from harness.symbols import Symbols
from harness.target import boot, splats
from harness.target.base import Target, open_target
from harness.target.splats import Report
from harness.target.symbols import symbols_of
from harness.target.virtual import VirtualTarget

# of AgentClient.finish()
_LATE = "kernel log: "

Chosen = Sequence[tuple[Bug, BugCase]]


@dataclasses.dataclass(slots=True)
class Share:
    """What came of one machine."""

    # of open_target()
    spec: str
    tested: Tested
    findings: list[Finding] = dataclasses.field(default_factory=list)
    target: Target | None = None
    # what its logs are decoded with; None: nothing is known
    symbols: Symbols | None = None
    # address of _text in every guest of this run; None: each has its own
    text_base: int | None = None


def run(
    specs: Sequence[str],
    chosen: Chosen,
    cases: Mapping[str, Case],
    settings: Settings,
    jobs: int,
    heard: Callable[[Share, Finding], None],
) -> list[Share]:
    """Run `chosen` on every machine; `heard` is called in this thread with each finding.

    `cases`: by id. A machine that cannot be had loses its cases; the others go on.
    """
    shares = [Share(spec, Tested(spec.replace(":", "-", 1), spec=spec)) for spec in specs]
    out: queue.Queue[tuple[Share, Finding | Exception | None]] = queue.Queue()
    stop = threading.Event()

    def work(share: Share) -> None:
        try:
            for finding in _findings(share, chosen, cases, settings):
                out.put((share, finding))
                if stop.is_set():
                    break
        except Exception as error:  # noqa: BLE001  # raised again in the main thread
            out.put((share, error))
        finally:
            out.put((share, None))

    with ThreadPoolExecutor(max(1, min(jobs, len(shares)))) as pool:
        try:
            for share in shares:
                pool.submit(work, share)
            _gather(out, len(shares), heard)
        except BaseException:
            stop.set()
            for share in shares:
                if share.target is not None:
                    share.target.abort()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return shares


def _gather(
    out: "queue.Queue[tuple[Share, Finding | Exception | None]]",
    left: int,
    heard: Callable[[Share, Finding], None],
) -> None:
    while left:
        share, item = out.get()
        if item is None:
            left -= 1
        elif isinstance(item, Exception):
            raise item
        else:
            share.findings.append(item)
            heard(share, item)


def _findings(
    share: Share, chosen: Chosen, cases: Mapping[str, Case], settings: Settings
) -> Iterator[Finding]:
    rules = splats.load_rules()
    try:
        with _opened(share.spec, settings) as target:
            share.target = target
            _learn_names(share, settings)
            for index, (bug, case) in enumerate(chosen):
                (result,) = pipeline.run_cases(
                    target, [cases[case.id]], scale=settings.timeout_scale
                )
                share.tested = pipeline.tested(target, result, share.spec) or share.tested
                reports = splats.reports(result.observed.kernel_log, rules) + _late(result)
                finding = bugs.find(bug, case, result, reports)
                yield finding
                if _did_harm(finding) and index < len(chosen) - 1:
                    target.renew()
    except MachineLostError as error:
        if share.target is not None:
            raise
        for bug, case in chosen:
            result = pipeline.lost_result(cases[case.id], share.tested.name, error)
            yield bugs.find(bug, case, result, ())


def _learn_names(share: Share, settings: Settings) -> None:
    """What logs are decoded with; a guest that does not boot is for the first case to say."""
    target = share.target
    if isinstance(target, VirtualTarget):
        with suppress(BpfthrowError, OSError):
            share.symbols = symbols_of(target.kernel, target)
            share.text_base = None if settings.cold else target.text_base()


@contextmanager
def _opened(spec: str, settings: Settings) -> Iterator[Target]:
    """A target that is nobody's warm guest: those are not for crashing."""
    begun = None
    if spec.startswith("vm:"):
        kernel = kernels.resolve(spec.removeprefix("vm:"))
        machine = boot.machine_for(kernel, settings)
        begun = boot.Begun(kernel, boot.new(machine, detached=False, cold=settings.cold))
    with open_target(spec, settings, begun) as target:
        yield target


def _late(result: Result) -> tuple[Report, ...]:
    """What the kernel said when the case was over and its program unloaded."""
    said = (each.observed for each in result.differences if each.path == "leaks")
    texts = (text.removeprefix(_LATE) for text in said if text.startswith(_LATE))
    return tuple(splats.described(text) for text in texts)


def _did_harm(finding: Finding) -> bool:
    return finding.judgement not in (Judgement.FINE, Judgement.ABSENT)
