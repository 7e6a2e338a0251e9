# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A refused program, shrunk on a booted kernel: small, refused alike, the same from its text."""

import pytest

from harness import cli, config
from harness.asm_command import object_from
from harness.bpf.declare import unit_of
from harness.bpf.elf import read_object
from harness.build import PROGS
from harness.kernels import resolve
from harness.minimize_draft import draft_of
from harness.repro_load import load_on
from harness.repro_log import evidence

# file, program, rule, instructions that are left at most
PROGRAMS = (
    ("iterator_live", "refused", "reference-held", 8),
    ("throw_in_callbacks", "loop_calls_static", "throw-in-callback", 10),
)


@pytest.mark.kernel
@pytest.mark.parametrize(("file", "program", "rule", "most"), PROGRAMS)
def test_rejected_program_becomes_small(request, tmp_path, file, program, rule, most):
    """Kernels are asked, not the model alone: maps, types and relocations are what libbpf takes."""
    settings = config.resolve(request.config.option)
    if not settings.kernel:
        pytest.skip("it loads into guests: --kernel")
    names = [name for name in settings.kernel if resolve(name).expects_throw]
    if not names:
        pytest.skip("a kernel without exceptions has one refusal for all")
    small = tmp_path / "small.bpf.s"
    source = PROGS / "reject" / f"{file}.bpf.c"
    kernels = [word for name in names for word in ("--kernel", name)]
    command = ["repro", str(source), "--prog", program, "--minimize", "-o", str(small), *kernels]
    assert cli.main(command) == 1
    path = tmp_path / "small.bpf.o"
    path.write_bytes(object_from(str(small)))
    obj = read_object(path)
    assert draft_of(unit_of(obj, program)).size <= most
    for load in load_on(names, obj, [program], settings):
        seen = load.seen[program]
        found = evidence(seen.log, seen.message).found
        assert found is not None, f"{load.kernel}: {seen.verdict} {seen.message}"
        assert found.rule.name == rule
