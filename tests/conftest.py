# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every test directory shares."""

import functools
import hashlib
import os
import signal

import hypothesis
import pytest

from harness import build

pytest_plugins = ["pytester"]

_HEAD = """\
// SPDX-License-Identifier: GPL-2.0-only
#include "exceptions.h"
#include <linux/pkt_cls.h>
"""
_GPL = '\nchar _license[] SEC("license") = "GPL";\n'

# An example that takes long says that the machine is busy, nothing about the code.
hypothesis.settings.register_profile("untimed", deadline=None, print_blob=True)
hypothesis.settings.load_profile("untimed")

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


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Compile C text (exceptions.h is included already); the object's path."""
    root = tmp_path_factory.mktemp("objects")

    @functools.cache
    def compile_text(text):
        source = root / f"t{hashlib.sha256(text.encode()).hexdigest()[:12]}.bpf.c"
        source.write_text(_HEAD + text + _GPL)
        return build.build([source], root)[0]

    return compile_text
