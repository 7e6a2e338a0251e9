# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fixtures of the verifier model's tests: C in, object or Subject out."""

import functools
import hashlib

import pytest

from harness import build
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.sim.semantics import profile
from harness.verify.prediction import Subject

_HEAD = "// SPDX-License-Identifier: GPL-2.0-only\n"
_PRELUDE = '#include "exceptions.h"\n#include <linux/pkt_cls.h>\n'
_GPL = '\nchar _license[] SEC("license") = "GPL";\n'


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Compile C text (exceptions.h is included already); the object's path."""
    root = tmp_path_factory.mktemp("objects")

    @functools.cache
    def compile_text(text):
        source = root / f"t{hashlib.sha256(text.encode()).hexdigest()[:12]}.bpf.c"
        source.write_text(_HEAD + _PRELUDE + text + _GPL)
        return build.build([source], root)[0]

    return compile_text


@pytest.fixture
def subject_of_c(compiled):
    """C text -> the Subject of its first program."""

    def make(text, series="6.12"):
        obj = read_object(compiled(text))
        return Subject(obj, link(obj, obj.programs[0].name), profile(series))

    return make
