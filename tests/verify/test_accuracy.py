# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every program of progs/ against the model: what cases claim, booted kernels have confirmed.

The table that this prints is the measurement of docs/verify.md.
"""

import pytest

from harness.build import PROGS
from harness.environments import environment_of
from harness.kernels import catalogue, store
from harness.series import SERIES
from harness.suite import collect
from harness.verify import accuracy
from harness.verify.accuracy import Outcome

# shares that must be decided: with the types of the kernels in the cache, and without
DECIDED_KNOWN, DECIDED = 0.97, 0.95
BUGS = PROGS / "kernel-bugs"


@pytest.fixture(scope="module")
def kernels():
    """Series -> what libbpf would learn of its kernel, of those that are in the cache."""
    releases = [kernel.release for kernel in store.cached(catalogue.load())]
    found = {s: next((r for r in releases if r.startswith(f"{s}.")), "") for s in SERIES}
    return {series: environment_of(release) for series, release in found.items() if release}


@pytest.fixture(scope="module")
def judged(request, kernels):
    found = accuracy.measure(collect(), kernels=kernels)
    # past pytest's capture: the table belongs into every log
    manager = request.config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        print(f"\nwith the types of {', '.join(kernels) or 'no kernel'}\n{accuracy.table(found)}")
    return found


def test_nothing_is_predicted_wrongly(judged):
    assert [str(each) for each in judged if each.outcome is Outcome.WRONG] == []


@pytest.mark.parametrize("series", SERIES)
def test_enough_is_decided(judged, kernels, series):
    here = [each for each in judged if each.series == series]
    throwing = [each for each in here if each.throws]
    least = DECIDED_KNOWN if series in kernels else DECIDED
    assert len(throwing) > 250
    assert accuracy.count(throwing).decided >= least
    assert accuracy.count(here).decided >= least


def test_bugs_of_kernels_are_named():
    """A case that takes a kernel down says what should happen: else the model names the bug."""
    judged = accuracy.measure(collect([BUGS]))
    assert [str(each) for each in judged if each.outcome is not Outcome.RIGHT] == []
    letters = {bug[0] for each in judged for bug in each.prediction.bugs}
    assert letters == set("ACDGH")
