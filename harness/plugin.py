# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pytest plugin: the cases of `bpfthrow run` as tests, on the kernels of `--kernel`.

A test asks for the fixture `bpf_result` and gets one case's Result on one target. Owns options,
selection, the machines' life time and what pytest shows; judging is harness.run's business.
Nothing is compiled, fetched or booted unless a test that is going to run needs it.
"""

import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from harness import config as settings_table
from harness import workers
from harness.config import Settings
from harness.errors import BpfthrowError, MachineLostError, UsageError, WorldError
from harness.hooks import HOOKS
from harness.model import Case, Observation, Provenance, Result, Verdict
from harness.plugin_machine import Machine
from harness.report import table
from harness.report.detail import detail, evidence
from harness.report.outcome import (
    FAILURES,
    Outcome,
    RunHeader,
    Tested,
    first_line,
    headline,
    nothing_ran,
    outcome,
)
from harness.report.style import clean, style_for
from harness.workers import Arrived

# settings that are options of pytest too; json, junit and profile are left to the command
OPTIONS = (
    "kernel", "hook", "target", "artifacts", "keep_vm", "cpus", "memory", "timeout_scale",
    "accelerator", "retries", "isolate",
)  # fmt: skip
MARKERS = (
    "kernel: needs a real kernel; runs only with --kernel or --target",
    "needs(feature, ...): features that the case's target must have",
    "crashes(why): may crash the kernel; never runs on --target local",
)
_NOBODY = "no-kernel"


@dataclass(slots=True)
class _State:
    settings: Settings
    # specs of harness.target.base.open_target() -> label in test ids
    targets: dict[str, str]
    cases: list[Case] | None = None
    results: list[Result] = field(default_factory=list)
    tested: dict[str, Tested] = field(default_factory=dict)
    # from xdist's workers
    arrived: Arrived = field(init=False)
    deselected: int = 0
    # outcomes of tests marked `kernel`, over all workers
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arrived = Arrived(self.tested)

    def header(self) -> RunHeader:
        return RunHeader(tuple(self.tested.values()))

    def found(self) -> list[Result]:
        """Every result of the session, those of workers included."""
        return [*self.results, *self.arrived.results()]


_STATE = pytest.StashKey[_State]()
_RESULT = pytest.StashKey[Result]()
# number of a test in the order of collection, which all workers of xdist share
_PLACE = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of harness.config's table."""
    group = parser.getgroup("bpfthrow", "BPF exceptions")
    for name in OPTIONS:
        settings_table.add_flag(group.addoption, settings_table.BY_NAME[name])


def pytest_configure(config: pytest.Config) -> None:
    """Settle the settings; a wrong one ends the session before anything else."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    try:
        settings = settings_table.resolve(config.option, directory=config.invocation_params.dir)
        state = config.stash[_STATE] = _State(settings, _targets(settings))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    if unknown := sorted(set(settings.hook) - set(HOOKS)):
        raise pytest.UsageError(f"unknown hook {unknown[0]!r}; known: {', '.join(HOOKS)}")
    config.pluginmanager.register(_Tally(state), "bpfthrow-tally")


def _targets(settings: Settings) -> dict[str, str]:
    if settings.target != "vm":
        return {settings.target: settings.target.replace(":", "-")}
    if not settings.kernel:
        return {}
    from harness.kernels import spec  # noqa: PLC0415  # only where kernels are asked for

    names = spec.expand(settings.kernel)
    return {f"vm:{name}": f"vm-{name.rsplit('/', 1)[-1]}" for name in names}


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is going to be tested; releases are known after the boot, at the end."""
    state = config.stash[_STATE]
    if not state.targets:
        return ["bpfthrow: no kernel asked for (--kernel 6.12)"]
    targets, hooks = ", ".join(state.targets.values()), ", ".join(state.settings.hook) or "all"
    accelerator = state.settings.accelerator
    return [f"bpfthrow: {targets}; hooks: {hooks}; accelerator: {accelerator}; {_clang()}"]


def _clang() -> str:
    from harness import build, tools  # noqa: PLC0415  # only where kernels are asked for

    try:
        return tools.run([build.find_clang(), "--version"]).splitlines()[0]
    except BpfthrowError as error:
        return error.message


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each target and case; targets outermost, so that each boots once."""
    if "bpf_case" not in metafunc.fixturenames:
        return
    state = metafunc.config.stash[_STATE]
    if not state.targets:
        # one placeholder that pytest_collection_modifyitems() counts and takes out
        _parametrize(metafunc, "bpf_target", [pytest.param(_NOBODY, id=_NOBODY)])
        _parametrize(metafunc, "bpf_case", [pytest.param(None, id="any")])
        return
    targets = [pytest.param(spec, id=label) for spec, label in state.targets.items()]
    _parametrize(metafunc, "bpf_target", targets)
    _parametrize(metafunc, "bpf_case", [_param(case) for case in _cases(state)])


def _parametrize(metafunc: pytest.Metafunc, name: str, params: list[Any]) -> None:
    scope: Literal["session", "function"] = "session" if name == "bpf_target" else "function"
    metafunc.parametrize(name, params, indirect=True, scope=scope)


def _cases(state: _State) -> list[Case]:
    from harness import suite  # noqa: PLC0415  # reads and compiles objects

    if state.cases is None:
        try:
            found = suite.collect()
        except BpfthrowError as error:
            raise pytest.UsageError(str(error)) from error
        hooks = state.settings.hook
        state.cases = [case for case in found if not hooks or case.hook in hooks]
        if not state.cases:
            raise pytest.UsageError(f"no case runs on {', '.join(hooks) or 'any hook'}")
    return state.cases


def _param(case: Case) -> Any:
    marks = [pytest.mark.needs(*case.needs)] if case.needs else []
    if case.crashes:
        marks.append(pytest.mark.crashes(case.crashes))
    return pytest.param(case, id=f"{case.id}-{case.hook}", marks=marks)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a kernel, kernel tests are deselected and counted: never skipped silently."""
    state = config.stash[_STATE]
    out = [item for item in items if _needs_kernel(item)]
    for item in out:
        item.add_marker("kernel")
    if out and not state.targets:
        items[:] = [item for item in items if not _needs_kernel(item)]
        state.deselected = len(out)
        config.hook.pytest_deselected(items=out)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Number the tests that are going to run."""
    for number, item in enumerate(session.items):
        item.stash[_PLACE] = number


def _needs_kernel(item: pytest.Item) -> bool:
    asks = "bpf_target" in getattr(item, "fixturenames", ())
    return asks or item.get_closest_marker("kernel") is not None


@pytest.fixture(scope="session")
def bpf_target(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The machine under test, one for the session and kernel; opened on first use."""
    state = request.config.stash[_STATE]
    machine = Machine(request.param, state.targets[request.param], state.settings)
    try:
        yield machine
    finally:
        leaks = machine.close()
    if leaks:
        pytest.fail(f"{machine.label}: left behind: {', '.join(leaks)}", pytrace=False)


@pytest.fixture
def bpf_case(request: pytest.FixtureRequest) -> Case:
    """The case under test."""
    case: Case = request.param
    return case


@pytest.fixture
def bpf_result(request: pytest.FixtureRequest, bpf_target: Machine, bpf_case: Case) -> Result:
    """The case's result on the target. Unsupported: skipped. Machine lost: an error."""
    from harness import run  # noqa: PLC0415  # imports simulator and targets

    state = request.config.stash[_STATE]
    if bpf_target.broken:
        pytest.skip(f"{bpf_target.label} could not be had: {bpf_target.broken}")
    try:
        target = bpf_target.open()
        settings = state.settings
        result = run.judge(bpf_case, target, settings.profile, retries=settings.retries)
    except BpfthrowError as error:
        # an agent that fails over one case is no reason to give up the machine
        if isinstance(error, MachineLostError) or not bpf_target.is_open:
            bpf_target.broken = first_line(error.message)
        lost = request.node.stash[_RESULT] = _lost(bpf_case, bpf_target, error)
        state.results.append(lost)
        raise
    state.results.append(_remembered(request, bpf_target, result, target))
    bpf_target.deaths = run.deaths_in_a_row(bpf_target.deaths, result)
    bpf_target.broken = getattr(run.dying(bpf_target.deaths), "message", "")
    if result.observed.verdict is Verdict.LOST:
        message = result.observed.message
        raise WorldError(f"{bpf_target.label}: {message}", evidence=result.observed.log)
    if outcome(result) is Outcome.UNSUPPORTED:
        pytest.skip(f"unsupported: {first_line(result.observed.message)}")
    return state.results[-1]


def _lost(case: Case, machine: Machine, error: BpfthrowError) -> Result:
    observed = Observation(
        Verdict.LOST, message=error.message, provenance=Provenance(source=machine.label)
    )
    return Result(case, machine.label, observed)


def _remembered(
    request: pytest.FixtureRequest, machine: Machine, result: Result, target: Any
) -> Result:
    """Keep the result for the report of its test and the matrix; return it, traced."""
    from harness import run  # noqa: PLC0415  # see bpf_result

    state = request.config.stash[_STATE]
    provenance = result.observed.provenance
    result = run.with_trace(result, state.settings.profile)
    if result.target not in state.tested:
        found = run.tested(target, result, machine.spec)
        state.tested |= {result.target: found} if found else {}
    request.node.stash[_RESULT] = result
    request.node.user_properties += [
        ("case", result.case.id),
        ("hook", result.case.hook),
        ("target", result.target),
        ("status", str(result.observed.verdict)),
        ("kernel", provenance.kernel),
        ("accelerator", provenance.accelerator),
        ("jit", provenance.jit),
        ("loader", provenance.loader),
    ]
    return result


class _Text:
    """What pytest prints for a failure, with the one line that its summary shows.

    The attributes are those that pytest's terminal and JUnit reports look for in a longrepr.
    """

    def __init__(self, text: str, message: str) -> None:
        self._text = clean(text)
        self.reprcrash = SimpleNamespace(message=clean(message))

    def __str__(self) -> str:
        return self._text

    def toterminal(self, writer: Any) -> None:
        """Write the text to pytest's terminal writer."""
        writer.line(self._text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A difference and a lost machine read as what they are, without a traceback."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    result = item.stash.get(_RESULT, None)
    if result and report.when == "setup" and hasattr(item.config, "workerinput"):
        text = workers.packed(item.stash[_PLACE], result, item.config.stash[_STATE].tested.values())
        setattr(report, workers.ATTRIBUTE, text)
    if isinstance(error, BpfthrowError):
        tail = "\n".join(getattr(error, "evidence", "").splitlines()[-20:])
        _say(report, f"{error}\n{tail}" if tail else str(error), first_line(error.message))
    elif result and report.when == "call" and report.failed and outcome(result) in FAILURES:
        header = item.config.stash[_STATE].header()
        _say(report, detail(result, header, with_evidence=False), headline(result))
        # what a kernel printed may be no text that xdist could bring over
        found = [(title, clean(text)) for title, text in evidence(result)]
        report.sections += found
        # sections do not reach pytest's JUnit XML, properties do
        item.user_properties += found
    return report


def _say(report: pytest.TestReport, text: str, message: str) -> None:
    report.longrepr = _Text(text, message)  # type: ignore[assignment]
    # of longrepr only the text comes over from a worker
    setattr(report, workers.HEADLINE, clean(message))


class _Tally:
    """Counts what became of the kernel tests; under xdist all workers' reports come here."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._counts = state.counts

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one report, set-up and tear-down only where they did not pass."""
        if text := getattr(report, workers.ATTRIBUTE, ""):
            self._state.arrived.take(text)
        message = getattr(report, workers.HEADLINE, "")
        if message and isinstance(report.longrepr, str):
            report.longrepr = _Text(report.longrepr, message)  # type: ignore[assignment]
        if "kernel" in report.keywords and (report.when == "call" or not report.passed):
            self._counts[report.outcome] = self._counts.get(report.outcome, 0) + 1


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A session whose kernel tests all skipped is red."""
    if hasattr(session.config, "workerinput"):
        return  # a worker sees only a part
    if exitstatus == pytest.ExitCode.OK and _barren(session.config.stash[_STATE]):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _barren(state: _State) -> list[str]:
    """Why a session that looks green tested too little."""
    if results := state.found():
        return [
            f"{name}: every case was unsupported, yet this kernel should have exceptions"
            for name in nothing_ran(results, state.header())
        ]
    if state.counts and set(state.counts) == {"skipped"}:
        return ["every kernel test was skipped"]
    return []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The matrix of everything that ran, and what did not run, in plain sight."""
    state = config.stash[_STATE]
    write = terminalreporter.write_line
    if state.deselected:
        write(
            f"bpfthrow: kernel tests deselected ({state.deselected}): no kernel asked for,"
            " give --kernel 6.12",
            yellow=True,
        )
    if results := state.found():
        terminalreporter.section("BPF exceptions")
        text = table.render(results, state.header(), style_for(sys.stdout))
        for line in text.splitlines():
            write(line)
    for reason in _barren(state):
        write(f"bpfthrow: {reason}", red=True)
