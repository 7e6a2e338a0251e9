# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a verifier said could be in registers, against what the simulator has there.

A choice of topics, in guests of its own; `python tests/containment_campaign.py --kernel
6.12` goes through all of progs/.
"""

import containment_campaign
import pytest

from harness import config, suite
from harness.build import PROGS
from harness.target.base import open_target

TOPICS = ("assert", "packet", "callback", "tailcall")


@pytest.mark.kernel
def test_every_value_was_foreseen(request):
    """No register holds what the kernel's verifier had excluded."""
    settings = config.resolve(request.config.option)
    if not settings.kernel:
        pytest.skip("it pushes objects into guests: --kernel")
    cases = suite.collect([PROGS / topic for topic in TOPICS])
    for kernel in settings.kernel:
        with open_target(f"vm:{kernel}", settings) as target:
            found = containment_campaign.campaign(target, cases)
        assert found.judged > 1000, "too little was judged to mean anything"
        assert not found.violations, "\n".join(found.violations[:10])
