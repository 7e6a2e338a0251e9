# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The pipeline's order of things, with a fake target and a fake simulator."""

import dataclasses

import pytest

from harness import run
from harness.errors import MachineLostError, UsageError, WorldError
from harness.model import (
    Difference,
    Expectation,
    Loading,
    Observation,
    Provenance,
    Result,
    Verdict,
)
from harness.report import outcome as report
from harness.report.outcome import Outcome, outcome
from tests.fake_target import FakeTarget, case, ran

CASES = [case("throw/a"), case("throw/b"), case("throw/c")]


@pytest.fixture(autouse=True)
def simulator(monkeypatch):
    """A simulator that says 1 to everything, and whose questions are listed."""
    asked = []

    def run_case(wanted, profile, *, trace=False, environment=None):
        asked.append((wanted.id, profile))
        return ran(1)

    monkeypatch.setattr(run, "run_case", run_case)
    run._simulated.cache_clear()
    yield asked
    run._simulated.cache_clear()


def _differing(simulated):
    wrong = Difference("retval", 1, 2, "the same", ("simulator", "kernel"))
    return Result(CASES[0], "vm-6.12", ran(2), simulated, (wrong,))


@pytest.mark.parametrize(
    ("simulated", "told"),
    [(ran(1), True),
     (Observation(Verdict.REJECTED, message="simulator fault: x"), True),
     (dataclasses.replace(ran(1), doubts=("the order of a map",)), False),
     (Observation(Verdict.UNSUPPORTED), False),
     (None, False)],
    ids=["ran", "faults", "doubts", "no say", "not asked"],
)  # fmt: skip
def test_a_trace_belongs_to_a_difference_from_what_the_simulator_says(monkeypatch, simulated, told):
    monkeypatch.setattr(run, "traced", lambda *_: "throw 64")
    found = run.with_trace(_differing(simulated))
    assert getattr(found.simulated, "trace", "") == ("throw 64" if told else "")
    agreed = Result(CASES[0], "vm-6.12", ran(1), ran(1))
    assert run.with_trace(agreed) is agreed


@pytest.mark.parametrize(("kernel", "throws"), [("6.12.1", True), ("6.1.0-50", False)])
def test_what_was_tested_is_known_from_a_guest_that_died(kernel, throws):
    target = None  # asking would boot another one
    seen = Provenance(kernel=kernel, accelerator="tcg", jit="1", loader="bpftool v7.5.0")
    died = Observation(Verdict.CRASHED, provenance=seen)
    found = run.tested(target, Result(CASES[0], "vm-6.12", died, None), "vm:6.12")
    assert found == report.Tested("vm-6.12", kernel, "tcg", "1", "bpftool v7.5.0", throws, "6.12")
    unknown = Result(CASES[0], "vm-6.12", Observation(Verdict.LOST), None)
    assert run.tested(target, unknown, "vm:6.12") is None


def _raises(error):
    def answer(_case):
        raise error

    return answer


def test_every_case_gets_a_result_in_order():
    target = FakeTarget("vm-6.12", dict.fromkeys(("throw/a", "throw/b", "throw/c"), ran(1)))
    results = list(run.run_cases(target, CASES))
    assert [result.case.id for result in results] == ["throw/a", "throw/b", "throw/c"]
    assert all(result.agree for result in results)
    assert target.log[-1] == "finish"


def test_a_lost_machine_loses_the_rest_with_the_cause():
    lost = MachineLostError("6.12 did not boot", fix="look", evidence="console")
    target = FakeTarget("vm-6.12", {"throw/a": ran(1), "throw/b": _raises(lost)})
    results = list(run.run_cases(target, CASES))
    assert [r.observed.verdict for r in results] == [Verdict.RAN, Verdict.LOST, Verdict.LOST]
    assert "did not boot" in results[2].observed.message
    assert results[2].observed.log == "console"
    assert "run throw/c" not in target.log


def test_an_agent_that_fails_over_one_case_costs_one_case():
    answers = {"throw/a": _raises(WorldError("agent: bug")), "throw/b": ran(1), "throw/c": ran(1)}
    results = list(run.run_cases(FakeTarget("vm-6.12", answers), CASES))
    assert [r.observed.verdict for r in results] == [Verdict.LOST, Verdict.RAN, Verdict.RAN]


def test_a_mistake_in_one_case_fails_that_case_only():
    answers = {
        "throw/a": ran(1),
        "throw/b": _raises(UsageError("frame too long")),
        "throw/c": ran(1),
    }
    results = list(run.run_cases(FakeTarget("vm-6.12", answers), CASES))
    assert [result.agree for result in results] == [True, False, True]
    assert results[1].observed.message == "frame too long"
    assert results[1].differences


def test_what_a_machine_does_not_know_of_a_selftest_is_no_failure():
    """The object is somebody else's: this libbpf may be too old for it."""
    (first, *_) = CASES
    theirs = dataclasses.replace(first, loading=Loading(alone=True))
    answers = {first.id: _raises(UsageError("bad map relo against 'jt0'"))}
    (result,) = run.run_cases(FakeTarget("vm-6.12", answers), [theirs])
    assert result.observed.verdict is Verdict.UNSUPPORTED
    assert result.observed.message == "bad map relo against 'jt0'"
    assert not result.differences


def test_what_stays_after_everything_is_a_difference_of_the_last_case():
    answers = dict.fromkeys(("throw/a", "throw/b", "throw/c"), ran(1))
    target = FakeTarget("vm-6.12", answers, left_behind=("prog 7 'main'",))
    results = list(run.run_cases(target, CASES))
    assert not results[0].differences
    assert [item.observed for item in results[-1].differences] == ["prog 7 'main'"]
    assert not results[-1].agree


def test_a_leak_check_that_cannot_run_is_no_leak_and_not_clean():
    target = FakeTarget("vm-6.12", dict.fromkeys(("throw/a", "throw/b", "throw/c"), ran(1)))

    def finish():
        raise WorldError("agent: XDP is still attached", evidence="netlink")

    target.finish = finish
    results = list(run.run_cases(target, CASES))
    assert [r.observed.verdict for r in results] == [Verdict.RAN, Verdict.RAN, Verdict.LOST]
    assert not results[-1].differences


def test_a_crash_stays_a_crash_when_no_other_guest_can_be_had():
    class Crashing(FakeTarget):
        @property
        def facts(self):
            raise MachineLostError("6.12 did not boot")

    crash = Observation(Verdict.CRASHED, message="Oops")
    target = Crashing("vm-6.12", {"throw/a": crash})
    result = run.judge(CASES[0], target)
    assert result.observed.verdict is Verdict.CRASHED
    assert result.differences


@pytest.mark.parametrize(("expects_throw", "paths"), [(True, ["verdict"]), (False, [])])
def test_a_hook_that_should_be_there_is_not_skipped(expects_throw, paths):
    wanted = case("throw/live", hook="xdp-native", section="xdp", needs=("xdp-native",))
    absent = Observation(Verdict.UNSUPPORTED, message="xdp-native: no veth")
    target = FakeTarget("vm-6.12", {"throw/live": absent}, expects_throw=expects_throw)
    assert [item.path for item in run.judge(wanted, target).differences] == paths


def test_a_run_has_a_deadline(monkeypatch):
    monkeypatch.setattr(run, "RUN_TIMEOUT_S", 0.0)
    monkeypatch.setattr(run, "RUN_TIMEOUT_PER_CASE_S", 0.0)
    results = list(run.run_cases(FakeTarget("vm-6.12", {}), CASES))
    assert {r.observed.verdict for r in results} == {Verdict.LOST}
    assert "took longer" in results[0].observed.message


def test_the_simulator_is_asked_once_for_each_case_and_profile(simulator):
    run.simulate_ahead(CASES, "6.12.107")
    answers = dict.fromkeys(("throw/a", "throw/b", "throw/c"), ran(1))
    list(run.run_cases(FakeTarget("vm-6.12", answers), CASES))
    list(run.run_cases(FakeTarget("vm-7.3", answers, release="7.3.4"), CASES))
    assert sorted(simulator) == sorted(
        (wanted.id, profile) for wanted in CASES for profile in ("6.12", "7.3")
    )


def test_the_simulator_is_not_asked_about_a_rejection(simulator):
    wanted = case("reject/a", expectation=Expectation(Verdict.REJECTED))
    refused = Observation(Verdict.REJECTED, message="no")
    result = run.judge(wanted, FakeTarget("vm-6.12", {"reject/a": refused}))
    assert result.simulated is None
    assert result.agree
    assert not simulator


def test_a_profile_of_the_callers_choice_wins(simulator):
    run.judge(CASES[0], FakeTarget("vm-6.12", {"throw/a": ran(1)}), profile="series-v1")
    assert simulator == [("throw/a", "series-v1")]


# ---- another attempt -----------------------------------------------------------------------


def _in_turn(*seen):
    left = list(seen)
    return lambda _case: left.pop(0)


def test_a_failed_case_is_tried_once_more_in_a_fresh_guest():
    answers = {"throw/a": _in_turn(ran(2), ran(1)), "throw/b": ran(1), "throw/c": ran(1)}
    target = FakeTarget("vm-6.12", answers)
    first, *rest = run.run_cases(target, CASES, retries=1)
    assert target.log[:4] == ["run throw/a", "finish", "renew", "run throw/a"]
    assert (first.observed.retvals, first.agree) == ((2,), False)
    assert first.again.agree
    assert outcome(first) is Outcome.FLAKY
    assert all(result.agree and result.again is None for result in rest)


def test_a_failure_that_comes_again_is_no_flake():
    crash = Observation(Verdict.CRASHED, message="Oops")
    target = FakeTarget("vm-6.12", {"throw/a": _in_turn(crash, crash)})
    result = run.judge(CASES[0], target, retries=1)
    assert outcome(result) is Outcome.CRASHED
    assert outcome(result.again) is Outcome.CRASHED
    assert "finish" not in target.log


@pytest.mark.parametrize(("retries", "renewable"), [(0, True), (1, False)])
def test_there_may_be_no_other_attempt(retries, renewable):
    target = FakeTarget("local", {"throw/a": ran(2)}, renewable=renewable)
    result = run.judge(CASES[0], target, retries=retries)
    assert target.log.count("run throw/a") == 1
    assert outcome(result) is Outcome.DIFFER


def test_a_guest_that_cannot_be_had_again_does_not_hide_the_failure():
    target = FakeTarget("vm-6.12", {})

    def answer(_case):
        if "renew" in target.log:
            raise MachineLostError("did not boot")
        return ran(2)

    target.answers["throw/a"] = answer
    result = run.judge(CASES[0], target, retries=1)
    assert outcome(result) is Outcome.DIFFER
    assert result.again.observed.message == "did not boot"


def test_what_the_first_guest_held_is_not_forgotten():
    target = FakeTarget("vm-6.12", {"throw/a": _in_turn(ran(2), ran(1))}, left_behind=("map 3",))
    paths = [item.path for item in run.judge(CASES[0], target, retries=1).differences]
    assert paths == ["retvals[0]", "leaks"]


# ---- kernels that die again and again ------------------------------------------------------

CRASH = Observation(Verdict.CRASHED, message="Oops")


def _many(verdicts, **fields):
    cases = [case(f"throw/c{number}", **fields) for number in range(len(verdicts))]
    answers = {each.id: seen for each, seen in zip(cases, verdicts, strict=True)}
    return list(run.run_cases(FakeTarget("vm-6.12", answers), cases))


def test_a_kernel_that_dies_again_and_again_is_given_up():
    results = _many([ran(1)] + [CRASH] * 30)
    verdicts = [result.observed.verdict for result in results]
    assert verdicts == [Verdict.RAN] + [Verdict.CRASHED] * 10 + [Verdict.LOST] * 20
    assert [result.case.id for result in results] == [f"throw/c{n}" for n in range(31)]
    assert results[-1].observed.message.startswith("10 cases in a row crashed, hung or lost")


def test_a_kernel_that_survives_now_and_then_is_not():
    results = _many(([CRASH] * 9 + [ran(1)]) * 3)
    assert not [r for r in results if r.observed.verdict is Verdict.LOST]


def test_crashes_that_are_expected_are_not_counted():
    results = _many([CRASH] * 30, crashes="bug A")
    assert {r.observed.verdict for r in results} == {Verdict.CRASHED}
