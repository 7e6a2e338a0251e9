# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every test directory shares."""

import os

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, request):
    """Keep the caller's BPFTHROW_* out of the tests, except where a kernel was asked for."""
    if request.node.get_closest_marker("kernel"):
        return
    for name in [name for name in os.environ if name.startswith("BPFTHROW_")]:
        monkeypatch.delenv(name)
