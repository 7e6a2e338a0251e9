# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every vector through every engine; some through the real console script."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conformance import generate

from harness.conformance import machine, runner, vectors, whole
from harness.errors import UsageError
from harness.sim.engines import native

ALL = {vector.name: vector for vector in vectors.read(generate.VECTORS)}
GROUPS = sorted({vector.group for vector in ALL.values()})
PLUGIN = Path(sys.executable).with_name("bpfthrow-plugin")
SAMPLE = [
    "add64/reg-typical", "mov32/imm-zext", "sdiv64/reg-edge-least-by-minus-one",
    "movsx8to64/reg-sign-boundary-8", "bswap64/reg-typical", "ldxs16/mem-sign-boundary",
    "stx32/reg-edge-at-13", "fetch_add32/mem-zext", "cmpxchg64/mem-typical-equal",
    "jslt32/imm-sign-boundary-minus-one", "call_local/none-typical-nested", "callx/none-typical",
    "arguments/none-zero", "load_acquire8/mem-typical", "add32/imm-reserved-src",
    "unknown/none-reserved-opcode-ff", "uninitialised/reg-refused-r0",
]  # fmt: skip


@cache
def _reference(name):
    return machine.run(ALL[name].code, ALL[name].memory, "reference")


@pytest.mark.parametrize("group", GROUPS)
def test_vector(engine, group):
    """R0 or the error's text; and what is left of budget and memory is the same in all engines."""
    for name, vector in ALL.items():
        if vector.group != group:
            continue
        result = machine.run(vector.code, vector.memory, engine)
        assert not vector.broken + vector.skipped, name
        assert not runner.difference(vector, runner.Answer(result.r0, result.error)), name
        assert result == _reference(name), name


def test_engine_declines_nothing(engine):
    """What the reference interpreter runs instead is not tested by the test above."""
    some = [vector for name, vector in ALL.items() if vector.group == "callx" or name in SAMPLE]
    by = {machine.run(vector.code, vector.memory, engine).engine for vector in some}
    assert by == {engine}


def test_the_simulators_own_machine_agrees():
    """The plugin's small machine is held against the one that runs objects."""
    for name, vector in ALL.items():
        prepare = machine.engine_named("reference")
        budget = machine.DEFAULT_BUDGET
        result = whole.run(vector.code, vector.memory, "reference", prepare, budget, None)
        assert result == _reference(name), name


def test_engine_without_what_it_needs(monkeypatch):
    monkeypatch.setattr(native, "llvm", None)
    with pytest.raises(UsageError, match="needs llvmlite"):
        machine.run(b"", b"", "native")


def test_files_are_as_generated():
    """The expected results are those of the RFC's arithmetic in this directory, unedited."""
    assert generate.differences() == []


def test_number():
    assert len(ALL) >= 600


@pytest.mark.parametrize("name", SAMPLE)
def test_console_script(name):
    outcome = runner.run_all([ALL[name]], runner.by_plugin([str(PLUGIN)]))[0]
    assert (outcome.verdict, outcome.reason) == ("passed", "")


def test_console_script_with_program_and_elf_options():
    code = bytes.fromhex("b7000000ff0000009500000000000000")
    argv = [PLUGIN, "--program", code.hex(" ")]
    done = subprocess.run(
        argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ff\n", "")


def test_starting_imports_little():
    """What a start may cost is 60 ms: parsers, helpers and argparse are not among it."""
    program = (
        "import sys; from harness.conformance import plugin; "
        "plugin.main(['--program', 'b7000000ff0000009500000000000000']); "
        "print(*sys.modules)"
    )
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=os.environ)
    value, modules = done.stdout.splitlines()
    heavy = {
        "elftools", "argparse", "json", "pathlib", "subprocess", "pytest", "paramiko", "random",
        "urllib", "logging", "harness.bpf.btf", "harness.bpf.elf", "harness.bpf.rawelf",
        "harness.model", "harness.sim.machine", "harness.sim.helpers", "harness.sim.context",
        "harness.sim.maps", "harness.sim.trace", "harness.sim.semantics",
    }  # fmt: skip
    assert value == "ff"
    assert heavy & set(modules.split()) == set()
    assert len([name for name in modules.split() if name.startswith("harness")]) <= 25
