# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One object on many kernels: loads each program, runs none.

Owns the guests while it does. What an answer means is repro_log's and repro_report's business.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import kernels
from harness.bpf.elf import Object
from harness.config import Settings
from harness.errors import BpfthrowError, MachineLostError, ToolMissingError, WorldError
from harness.model import Case, Observation, Provenance, Verdict
from harness.series import series_of
from harness.target import boot
from harness.target.base import Target, open_target


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one kernel said to each program."""

    # as it was asked for, or as a bundle has it
    kernel: str
    # program -> its load: ran (it was taken), rejected, crashed, hung, lost or unsupported
    seen: dict[str, Observation] = field(default_factory=dict)

    @property
    def provenance(self) -> Provenance:
        """Release, accelerator and loader, from the first program that has them."""
        known = (seen.provenance for seen in self.seen.values() if seen.provenance.kernel)
        return next(known, Provenance())

    @property
    def series(self) -> str:
        """The series whose behaviour this kernel is expected to show."""
        return series_of(self.provenance.kernel or self.kernel)


# of a loader that was ended: harness/target/agent/spawn.py
_LATE = "took longer than"
# the loader's own limit is to come first: a guest that is given up has to be booted again
_PATIENCE = 3.0

Progress = Callable[[str, Observation], None]


def load_on(
    names: Sequence[str],
    obj: Object,
    programs: Sequence[str],
    settings: Settings,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Loaded]:
    """Load `programs` of the object on every kernel of `names`; the answers in their order.

    A kernel whose guest cannot be had has `lost` for every program. UsageError for a name that
    names no kernel.
    """
    cases = [_case(obj, name) for name in programs]
    settings = replace(settings, timeout_scale=settings.timeout_scale * _PATIENCE)
    # a mistake must not wait for a guest, and Ctrl-C ends a download in this thread only
    absent: dict[str, BpfthrowError] = {}
    for name in names:
        try:
            boot.machine_for(kernels.resolve(name), settings)
        except (WorldError, ToolMissingError) as error:
            absent[name] = error
    open_now: list[Target] = []
    with ThreadPoolExecutor(max(1, min(jobs, len(names)))) as pool:
        work = {
            name: pool.submit(_one, name, cases, settings, open_now, progress)
            for name in names
            if name not in absent
        }
        try:
            return [
                _nowhere(name, cases, absent[name]) if name in absent else work[name].result()
                for name in names
            ]
        except BaseException:
            for each in work.values():
                each.cancel()
            for target in open_now.copy():
                target.abort()
            raise


def _one(
    name: str,
    cases: Sequence[Case],
    settings: Settings,
    open_now: list[Target],
    progress: Progress | None,
) -> Loaded:
    seen: dict[str, Observation] = {}
    try:
        with open_target(f"vm:{name}", settings) as target:
            open_now.append(target)
            try:
                for case in cases:
                    seen[case.program] = _seen(target, case)
                    if progress:
                        progress(name, seen[case.program])
            finally:
                open_now.remove(target)
    except MachineLostError as error:
        for case in cases:
            seen.setdefault(case.program, _lost(error))
    return Loaded(name, seen)


def _seen(target: Target, case: Case) -> Observation:
    """One load. A machine that says it cannot is an answer; one that is gone ends the rest."""
    try:
        return target.run(case)
    except MachineLostError:
        raise
    except WorldError as error:
        if _LATE not in error.message:
            return _lost(error)
        limit = error.message.partition(_LATE)[2].strip()
        said = f"no answer within {limit}: too many paths to follow, perhaps"
        return Observation(Verdict.HUNG, message=said, log=error.evidence)


def _nowhere(name: str, cases: Sequence[Case], error: BpfthrowError) -> Loaded:
    return Loaded(name, {case.program: _lost(error) for case in cases})


def _lost(error: BpfthrowError) -> Observation:
    evidence = error.evidence if isinstance(error, WorldError) else ""
    return Observation(Verdict.LOST, message=str(error), log=evidence)


def _case(obj: Object, name: str) -> Case:
    program = obj.program(name)
    return Case(
        id=f"{Path(obj.path).name}/{name}",
        object=obj.path,
        program=name,
        section=program.section,
        hook="load",
    )


Pairs = tuple[tuple[str, str], ...]


def bisect(
    names: Sequence[str], load: Callable[[str], Loaded], same: Callable[[Loaded, Loaded], bool]
) -> tuple[list[Loaded], Pairs]:
    """Between which neighbours of `names` (oldest first) the answer changed, with few loads.

    Returns what was loaded, in the order of `names`, and the pairs; none where the two ends are the
    same. What changed and changed back between two loads is not seen.
    """
    known: dict[int, Loaded] = {}

    def at(index: int) -> Loaded:
        if index not in known:
            known[index] = load(names[index])
        return known[index]

    pairs = []
    start, last = 0, len(names) - 1
    while not same(at(start), at(last)):
        low, high = start, last
        while high - low > 1:
            middle = (low + high) // 2
            if same(at(middle), at(start)):
                low = middle
            else:
                high = middle
        pairs.append((names[low], names[high]))
        start = high
    return [known[index] for index in sorted(known)], tuple(pairs)


def without_paths(seen: Observation) -> Observation:
    """For a file that travels: nothing of what does not belong to the load."""
    return replace(seen, trace="", maps={}, data_out=None)
