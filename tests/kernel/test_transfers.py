# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The number domain of the verifier model concludes what the kernel's verifier prints.

Few programs, in guests of its own; tests/transfer_campaign.py takes more of them.
"""

import pytest
import transfer_campaign

from harness import config
from harness.target.base import open_target


@pytest.mark.kernel
def test_numbers_as_the_kernel_has_them(request):
    """Bits and ranges of registers behind each instruction of random programs."""
    settings = config.resolve(request.config.option)
    if not settings.kernel:
        pytest.skip("it pushes objects into guests: --kernel")
    for kernel in settings.kernel:
        with open_target(f"vm:{kernel}", settings) as target:
            found = transfer_campaign.campaign(target, range(40))
        assert found.same.total() > 200, "too little was compared to mean anything"
        assert not found.other, "\n".join(found.other[:10])
