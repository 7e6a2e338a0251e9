# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Our two series, compiled, booted and held against what they are meant to change.

`make test-patched` runs this: two kernels are compiled, which takes half an hour the first time.
Needs the simulator's word for what a series changes: that of profile series-v1 for the proposal.
"""

from dataclasses import replace

import pytest

from harness import run, suite
from harness.compare import compare
from harness.config import Settings
from harness.kernels import builder
from harness.model import Verdict
from harness.paths import VM_DIR
from harness.sim import semantics
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


@pytest.fixture
def proposed(monkeypatch):
    """What the simulator says of 7.3 with a default callback that returns 0."""
    changed = replace(semantics.profile(SERIES), default_returns_cookie=False)

    def simulate(result):
        case, release = result.case, result.observed.provenance.kernel
        with monkeypatch.context() as patch:
            patch.setitem(semantics.PROFILES, SERIES, changed)
            return run._simulated.__wrapped__(case, SERIES, run._environment(case, release))

    return simulate


def _has_say(observation):
    return observation is not None and observation.verdict is Verdict.RAN


def _differences(result, one, other):
    return compare(result.case, one, other, result.observed.provenance.kernel)


def _unlike(result, said):
    """Where the kernel returns something else; what the case declares is mainline's value."""
    returned = [
        d for d in _differences(result, said, result.observed) if "declared" not in d.between
    ]
    return [d for d in returned if d.path.startswith(("retvals", "wire"))]


def test_the_proposal_changes_the_default_handler_and_nothing_else(built, proposed):
    results = _results(f"build:{built('proposal')}", suite.collect(), SERIES)
    judged = [result for result in results if _has_say(result.simulated)]
    assert len(judged) > len(results) / 3
    changed = [r for r in judged if _differences(r, r.simulated, proposed(r))]
    assert len(changed) > 50
    keys = {_key(result.case) for result in changed}
    assert {_key(result.case) for result in judged if not result.agree} == keys
    # and where it differs, it does what is proposed
    for result in changed:
        assert not _unlike(result, proposed(result)), result.case.id
        first = run.simulate(result.case, result.observed.provenance.kernel, "series-v1")
        # which knows less of what came later
        assert not _has_say(first) or not _unlike(result, first), result.case.id


def test_the_fix_keeps_the_callback_that_crashes_other_kernels(built):
    cases = [case for case in suite.collect([BUG]) if case.hook == "test_run"]
    assert cases
    crashing = _results(SERIES, cases, SERIES)
    assert {result.observed.verdict for result in crashing} == {Verdict.CRASHED}
    fixed = _results(f"build:{built('fix-callback-index')}", cases, SERIES)
    for result in fixed:
        assert result.observed.verdict is Verdict.RAN, result.observed.message
        assert result.observed.retvals == result.simulated.retvals
