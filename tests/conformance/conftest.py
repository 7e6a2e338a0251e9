# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import pytest

from harness.conformance import machine
from harness.errors import UsageError


@pytest.fixture(params=list(machine.ENGINES))
def engine(request):
    """Each engine; one that needs a package which is not installed is skipped, and says so."""
    try:
        machine.engine_named(request.param)
    except UsageError as error:
        pytest.skip(error.message)
    return request.param
