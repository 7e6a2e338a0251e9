# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import dataclasses
import inspect

import pytest

from harness import errors, model
from harness.errors import Exit
from harness.hooks import HOOKS, Action, meaning
from harness.model import Case, Difference, Observation, Result, Verdict
from harness.series import SERIES, series_of

CASE = Case("a/b/c", "b.bpf.o", "c", "tc", "test_run")
RECORDS = [kind for _, kind in inspect.getmembers(model, dataclasses.is_dataclass)]


@pytest.mark.parametrize("kind", RECORDS)
def test_records_are_frozen(kind):
    assert kind.__dataclass_params__.frozen
    assert hasattr(kind, "__slots__")


@pytest.mark.parametrize(("retvals", "last"), [((), None), ((1,), 1), ((1, 2), 2)])
def test_retval_is_the_last(retvals, last):
    assert Observation(Verdict.RAN, retvals=retvals).retval == last


@pytest.mark.parametrize("verdict", Verdict)
def test_agreement_needs_a_verdict(verdict):
    result = Result(CASE, "t", Observation(verdict))
    assert result.agree is (verdict in (Verdict.RAN, Verdict.REJECTED))


def test_a_difference_ends_agreement():
    difference = Difference("retval", "1", "2", "equal", ("declared", "kernel"))
    assert not Result(CASE, "t", Observation(Verdict.RAN), None, (difference,)).agree


@pytest.mark.parametrize(
    ("release", "series"),
    [
        ("6.12.107+deb13-amd64", "6.12"),
        ("6.18.15+deb13-amd64", "6.18"),
        ("7.3.4+deb13-amd64", "7.3"),
        ("6.17.0", "6.12"),
        ("6.19.0-rc1", "6.18"),
        ("7.0", "6.18"),
        ("8.0.1", "7.3"),
        ("6.1.0-50-amd64", "6.12"),
        ("", "6.12"),
    ],
)
def test_series(release, series):
    assert series_of(release) == series
    assert series in SERIES


@pytest.mark.parametrize(
    ("hook", "retval", "redirect_set", "action"),
    [
        ("xdp-native", 0, False, Action.ABORTED),
        ("xdp-generic", 2, False, Action.PASS),
        ("xdp-native", 3, False, Action.TX),
        ("xdp-native", 4, True, Action.REDIRECT),
        ("xdp-native", 4, False, Action.DROP),
        ("xdp-native", 5, False, Action.ABORTED),
        ("xdp-native", 1 << 32 | 2, False, Action.PASS),
        ("tc-ingress", 2, False, Action.DROP),
        ("tc-egress", 64, False, Action.PASS),
        ("tc-ingress", -1, False, Action.PASS),
        ("tc-ingress", 4, False, Action.DROP),
        ("tcx-ingress", 4, False, Action.PASS),
        ("tcx-egress", 7, True, Action.REDIRECT),
    ],
)
def test_meaning(hook, retval, redirect_set, action):
    assert meaning(hook, retval, redirect_set=redirect_set) is action


def test_live_hooks_have_meanings():
    assert [name for name, hook in HOOKS.items() if not hook.live] == ["test_run", "load"]
    assert all(hook.meanings for hook in HOOKS.values() if hook.live)
    assert all(name == hook.name for name, hook in HOOKS.items())


def test_every_error_has_one_of_the_two_roots():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    ours = [kind for kind in kinds if issubclass(kind, errors.BpfthrowError)]
    roots = (errors.UsageError, errors.WorldError)
    assert all(issubclass(kind, roots) for kind in ours if kind is not errors.BpfthrowError)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), Exit.USAGE),
        (errors.ObjectError("x"), Exit.USAGE),
        (errors.MachineLostError("x"), Exit.LOST),
    ],
)
def test_exit_codes(error, code):
    assert error.exit_code is code


def test_message_and_fix():
    error = errors.WorldError("no boot", fix="look at the console", evidence="panic")
    assert str(error) == "no boot\n  fix: look at the console"
    assert (error.message, error.evidence) == ("no boot", "panic")
    assert str(errors.UsageError("plain")) == "plain"
