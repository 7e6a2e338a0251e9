# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every test directory shares."""

import os
import signal

import pytest

pytest_plugins = ["pytester"]

# A shell starts what runs in the background with SIGINT ignored, which children inherit: what the
# tests of Ctrl-C start would never hear of it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, request):
    """Keep the caller's BPFTHROW_* out of the tests, except where a kernel was asked for."""
    if request.node.get_closest_marker("kernel"):
        return
    for name in [name for name in os.environ if name.startswith("BPFTHROW_")]:
        monkeypatch.delenv(name)
