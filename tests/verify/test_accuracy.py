# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every program of progs/ against the model: what cases claim, booted kernels have confirmed."""

import pytest

from harness.series import SERIES
from harness.suite import collect
from harness.verify import accuracy
from harness.verify.accuracy import Outcome

# shares that must be decided, programs that need exceptions and all of them; they only ever rise
DECIDED_THROWING = 0.0
DECIDED = 0.0


@pytest.fixture(scope="module")
def judged(capfd_disabled):
    found = accuracy.measure(collect())
    capfd_disabled(accuracy.table(found))
    return found


@pytest.fixture(scope="module")
def capfd_disabled(request):
    """Print past pytest's capture: the table belongs into every log."""
    manager = request.config.pluginmanager.getplugin("capturemanager")

    def show(text):
        with manager.global_and_fixture_disabled():
            print("\n" + text)

    return show


def test_nothing_is_predicted_wrongly(judged):
    assert [str(each) for each in judged if each.outcome is Outcome.WRONG] == []


@pytest.mark.parametrize("series", SERIES)
def test_enough_is_decided(judged, series):
    here = [each for each in judged if each.series == series]
    throwing = [each for each in here if each.throws]
    assert len(throwing) > 100
    assert accuracy.count(throwing).decided >= DECIDED_THROWING
    assert accuracy.count(here).decided >= DECIDED
