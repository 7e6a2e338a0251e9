# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Our two series, compiled, booted and held against what they are meant to change.

`make test-patched` runs this: two kernels are compiled, which takes half an hour the first time.
Needs the simulator's word for what a series changes: that of profile series-v1 for the proposal.
"""

import pytest

from harness import run, suite
from harness.compare import compare
from harness.config import Settings
from harness.kernels import builder
from harness.model import Verdict
from harness.paths import VM_DIR
from harness.target.base import open_target

SOURCE = "deb:linux-source-7.3"
SERIES = "7.3"
BUG = "progs/kernel-bugs/stale_callback.bpf.c"

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="session")
def built():
    """Compile a series of ours, or take it from the cache; the kernel's name."""

    def build(name):
        order = builder.Order(SOURCE, (VM_DIR / f"patches/{name}.patch",), name=name)
        return builder.build(order).name

    return build


def _results(kernel, cases, profile):
    with open_target(f"vm:{kernel}", Settings()) as target:
        return [run.judge(case, target, profile) for case in cases]


def _key(case):
    return case.id, case.hook


def _changed_by_the_proposal(case):
    merged, proposed = run.simulate(case, SERIES), run.simulate(case, SERIES, "series-v1")
    return bool(merged and proposed and compare(case, merged, proposed, SERIES))


def test_the_proposal_changes_the_default_handler_and_nothing_else(built):
    cases = suite.collect()
    expected = {_key(case) for case in cases if _changed_by_the_proposal(case)}
    assert len(expected) > 50
    results = _results(f"build:{built('proposal')}", cases, SERIES)
    assert {_key(r.case) for r in results if not r.agree} == expected
    # and where it differs, it does what the simulator says of the proposal
    for result in results:
        if _key(result.case) in expected:
            proposed = run.simulate(result.case, SERIES, "series-v1")
            assert result.observed.retvals == proposed.retvals, result.case.id
            assert result.observed.wire == proposed.wire, result.case.id


def test_the_fix_keeps_the_callback_that_crashes_other_kernels(built):
    cases = [case for case in suite.collect([BUG]) if case.hook == "test_run"]
    assert cases
    crashing = _results(SERIES, cases, SERIES)
    assert {result.observed.verdict for result in crashing} == {Verdict.CRASHED}
    fixed = _results(f"build:{built('fix-callback-index')}", cases, SERIES)
    for result in fixed:
        assert result.observed.verdict is Verdict.RAN, result.observed.message
        assert result.observed.retvals == result.simulated.retvals
