# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The import rule of the design, read off the source: the two oracles never meet."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

import harness

PACKAGE = Path(harness.__file__).parent

# Records and tables that anything may use; standard library only, for the agent's sake.
GROUND = {"errors", "model", "hooks", "series", "wire", "workflow", "paths", "reading", "tools"}
# What a module or package may import from harness, itself always included. The longest name
# counts; what has no row (cli, plugin, run, doctor, ...) is on top and may import anything.
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "logmatch": GROUND,
    "normalize": GROUND,
    "loadstats": GROUND,
    "refusals": GROUND | {"refusals_data", "refusals_load", "refusals_rule"},
    "refusals_data": GROUND | {"refusals_rule"},
    "refusals_load": GROUND | {"refusals_rule"},
    "refusals_rule": GROUND,
    "regress_model": GROUND | {"loadstats"},
    # comparing needs no machine; the command brings them
    "regress": GROUND | {"loadstats", "normalize", "regress_model", "report"},
    "regress_report": GROUND | {"regress_model", "report.columns"},
    "regress_sides": GROUND | {"compare", "regress_model", "report"},
    "frames": GROUND,
    "tags": GROUND | {"frames"},
    "build": GROUND,
    # a table and its judgement; the command and the run are on top
    "bugs": GROUND | {"build", "compare", "config", "suite", "target.splats"},
    "symbols": GROUND,
    # the kernel's own tags, read into the same claims
    "kerneltags": GROUND | {"tags"},
    "sidewords": GROUND | {"tags"},
    "sidecar": GROUND | {"sidewords", "tags"},
    "expected": GROUND | {"bpf", "build", "kerneltags", "sidecar", "sidewords", "tags"},
    "suite": GROUND | {"bpf", "build", "expected", "frames", "kerneltags", "tags"},
    "bpf": GROUND,
    "sim": GROUND | {"bpf", "frames"},
    # the command may print reports and find cases
    "sim.command": GROUND | {"bpf", "frames", "sim", "suite", "report", "build"},
    "conformance": GROUND | {"bpf", "sim"},
    # shrinking needs nobody to be asked; who is asked is on top
    "minimize": GROUND | {"bpf", "minimize_draft"},
    "minimize_draft": GROUND | {"bpf"},
    "minimize_declared": GROUND | {"bpf", "minimize", "minimize_draft"},
    "minimize_steps": GROUND | {"bpf", "minimize", "minimize_declared", "minimize_draft"},
    "verify": GROUND | {"bpf", "frames", "refusals", "tags", "sim.semantics"},
    # what cases claim, for the measurement alone: no answer comes from there
    "verify.accuracy": GROUND | {"sim.semantics", "bpf", "verify", "logmatch"},
    # the command compiles, and takes the options that describe a kernel
    "verify.command": GROUND | {"bpf", "build", "verify", "sim.semantics", "sim.kernelargs"},
    "compare": GROUND | {"logmatch"},
    "report": GROUND | {"compare", "logmatch"},
    "config": GROUND,
    "kernels": GROUND | {"config"},
    "accel": GROUND | {"kernels", "target"},
    "target": GROUND | {"bpf", "config", "kernels", "accel", "logmatch", "symbols"},
    "target.agent": {"errors", "hooks", "model", "wire", "bpf"},
}
# What a user calls may print reports, and so sees more than the oracle that it asks.
COMMANDS = ("sim.command", "verify.command")
# Third-party packages and the only places that may import them.
THIRD_PARTY = {
    # the last reads which libraries the initramfs needs, of programs of the host
    "elftools": ("bpf", "symbols", "target.initramfs"),
    # paramiko's own dependency: keys in OpenSSH's format
    "cryptography": ("target.virtme",),
    # an extra
    "llvmlite": ("sim.engines",),
    "paramiko": ("target", "bench"),
    "pyroute2": ("target.agent",),
    "pytest": ("plugin",),
}


def modules():
    """Name without "harness." -> file."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = file
    return found


MODULES = modules()


@cache
def imports(name):
    """Every module that `name` imports, in functions too: (ours without "harness.", others)."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for each in full:
            if each.partition(".")[0] == "harness":
                inner = each.removeprefix("harness").removeprefix(".")
                # "from harness.model import Case" names an attribute of the module
                ours.add(inner if inner in MODULES else inner.rpartition(".")[0])
            else:
                others.add(each.partition(".")[0])
    return frozenset(ours - {""}), frozenset(others)


def within(name, package):
    return name == package or name.startswith(package + ".")


def row_of(name):
    rows = [row for row in MAY_IMPORT if within(name, row)]
    return max(rows, key=len, default=None)


def reachable(name):
    """All our modules that importing `name` can lead to."""
    seen, todo = set(), [name]
    while todo:
        for found in imports(todo.pop())[0] - seen:
            seen.add(found)
            todo.append(found)
    return seen


def test_table_names_what_there_is():
    """A row for a module that was renamed would guard nothing."""
    names = set(MAY_IMPORT) | {name for row in MAY_IMPORT.values() for name in row}
    assert names <= set(MODULES)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if row_of(name)))
def test_layers(name):
    row = row_of(name)
    allowed = MAY_IMPORT[row] | {row}
    wrong = [found for found in imports(name)[0] if not any(within(found, one) for one in allowed)]
    assert not wrong, f"harness.{name} ({row}) must not import {sorted(wrong)}"


@pytest.mark.parametrize(
    ("oracle", "strangers"),
    [("sim", ("target", "kernels", "run")), ("bpf", ("sim", "target", "kernels")),
     ("verify", ("target", "kernels", "run")),
     ("target", ("sim", "compare", "report")), ("compare", ("sim", "target")),
     ("report", ("sim", "target"))],
)  # fmt: skip
def test_the_oracles_never_meet(oracle, strangers):
    """Not even by way of a third module."""
    for name in [name for name in MODULES if within(name, oracle) and name not in COMMANDS]:
        met = [found for found in reachable(name) for one in strangers if within(found, one)]
        assert not met, f"harness.{name} reaches {sorted(met)}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_third_party(name):
    foreign = imports(name)[1] - sys.stdlib_module_names - {"harness"}
    for package in foreign:
        places = THIRD_PARTY.get(package, ())
        assert any(within(name, place) for place in places), f"harness.{name} imports {package}"
