# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The probes, which `bpfthrow run tests/sim/probes` holds against kernels, have an answer here."""

from pathlib import Path

import pytest

from harness.series import SERIES
from harness.sim import run_case
from harness.suite import collect

PROBES = Path(__file__).parent / "probes"


@pytest.mark.parametrize("profile", SERIES)
def test_every_probe_runs(profile):
    cases = collect([PROBES])
    silent = [f"{c.id} [{c.hook}]" for c in cases if run_case(c, profile).verdict != "ran"]
    assert len(cases) > 1000
    assert silent == []
