# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fixtures of the simulator tests: C in, observation out."""

import functools
import hashlib

import pytest

from harness import build
from harness.bpf.elf import read_object
from harness.bpf.sections import attach_target, program_type
from harness.model import Case, Companion, Input
from harness.sim import run_case

FRAME = bytes(range(12)) + b"\x08\x00" + bytes(range(50))
PRELUDE = '#include "exceptions.h"\n#include <linux/pkt_cls.h>\n'


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Compile C text (exceptions.h is included already); the object's path."""
    root = tmp_path_factory.mktemp("objects")

    @functools.cache
    def compile_text(text):
        source = root / f"t{hashlib.sha256(text.encode()).hexdigest()[:12]}.bpf.c"
        gpl = '\nchar _license[] SEC("license") = "GPL";\n'
        source.write_text("// SPDX-License-Identifier: GPL-2.0-only\n" + PRELUDE + text + gpl)
        return build.build([source], root)[0]

    return compile_text


@pytest.fixture
def case_of(compiled):
    """Make a case of C text: program "entry" unless told, all other options as Case has them."""

    def make(
        text, program="entry", *, packet=FRAME, ctx=None, hook="test_run", repeat=1, attach=()
    ):
        path = str(compiled(text))
        obj = read_object(path)
        section = obj.program(program).section
        sections = {name: obj.program(name).section for name in attach}
        companions = tuple(
            Companion(name, program_type(s), attach_target(s)) for name, s in sections.items()
        )
        given = Input(ctx=ctx) if ctx is not None else Input(packet=packet)
        return Case("t", path, program, section, hook, given, repeat, companions=companions)

    return make


@pytest.fixture
def run(case_of):
    """Compile C text and run it: the observation, with its trace."""

    def go(text, program="entry", *, profile="6.12", trace=True, budget=10_000_000, **options):
        case = case_of(text, program, **options)
        return run_case(case, profile, trace=trace, budget=budget)

    return go
