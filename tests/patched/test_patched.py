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


def _proposed(result):
    """What the simulator says that the proposal does with the case; None if it has no say."""
    return run.simulate(result.case, result.observed.provenance.kernel, "series-v1")


def _changed_by_the_proposal(result):
    merged, proposed = result.simulated, _proposed(result)
    if merged is None or merged.verdict is not Verdict.RAN:
        return False
    return bool(compare(result.case, merged, proposed, result.observed.provenance.kernel))


def _unlike_the_proposal(result):
    """Where the kernel returns something else than series-v1 says.

    What the case declares is mainline's value; what the arena's allocator does besides is 7.3's.
    """
    release = result.observed.provenance.kernel
    differences = compare(result.case, _proposed(result), result.observed, release)
    returned = [found for found in differences if found.path.startswith(("retvals", "wire"))]
    return [found for found in returned if "declared" not in found.between]


def test_the_proposal_changes_the_default_handler_and_nothing_else(built):
    results = _results(f"build:{built('proposal')}", suite.collect(), SERIES)
    expected = {_key(result.case) for result in results if _changed_by_the_proposal(result)}
    assert len(expected) > 50
    assert {_key(result.case) for result in results if not result.agree} == expected
    # and where it differs, it does what the simulator says of the proposal
    for result in results:
        if _key(result.case) in expected:
            assert not _unlike_the_proposal(result), result.case.id


def test_the_fix_keeps_the_callback_that_crashes_other_kernels(built):
    cases = [case for case in suite.collect([BUG]) if case.hook == "test_run"]
    assert cases
    crashing = _results(SERIES, cases, SERIES)
    assert {result.observed.verdict for result in crashing} == {Verdict.CRASHED}
    fixed = _results(f"build:{built('fix-callback-index')}", cases, SERIES)
    for result in fixed:
        assert result.observed.verdict is Verdict.RAN, result.observed.message
        assert result.observed.retvals == result.simulated.retvals
