# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fixtures of the verifier model's tests: C in, object or Subject out."""

import pytest

from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.sim.semantics import profile
from harness.verify.prediction import Subject


@pytest.fixture
def subject_of_c(compiled):
    """C text -> the Subject of its first program."""

    def make(text, series="6.12"):
        obj = read_object(compiled(text))
        return Subject(obj, link(obj, obj.programs[0].name), profile(series))

    return make
