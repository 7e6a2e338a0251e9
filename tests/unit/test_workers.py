# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The plugin under pytest-xdist: real worker processes, fake targets."""

from pathlib import Path

import pytest

from harness.model import Case, Difference, Input, Observation, Provenance, Result, Verdict
from harness.report import outcome as outcomes  # pytest would collect a bare Tested
from harness.workers import Arrived, packed

# Each worker is a process of its own: what is faked must be faked there, too.
CONFTEST = """
import os
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import pytest
from fake_target import FakeTarget, case, ran
import harness.run, harness.suite
from harness.model import Observation, Verdict
from harness.target import base

CASES = [case(f"throw/depth/n{{i:02}}") for i in range(20)]
ANSWERS = {{each.id: ran(64) for each in CASES}}
ANSWERS["throw/depth/n07"] = ran(65, kernel_log="noise \\udc80 in the log")
ANSWERS["throw/depth/n11"] = Observation(Verdict.LOST, message="agent killed")

class Noted(FakeTarget):
    def run(self, wanted):
        with open({notes!r}, "a") as notes:
            notes.write(f"{{os.getpid()}} {{self.name}} {{wanted.id}}\\n")
        return super().run(wanted)

class Opened:
    def __init__(self, spec, settings):
        name = spec.replace(":", "-")
        self.target = Noted(name, ANSWERS, expects_throw="6.1" != spec[3:], renewable=False)
    def __enter__(self):
        return self.target
    def __exit__(self, *_):
        self.target.close()

harness.suite.collect = lambda _=(): list(CASES)
harness.run.simulate = lambda *_: ran(64)
harness.run.traced = lambda *_: "throw 64"
base.open_target = Opened
"""
KERNEL_TEST = "def test_case(bpf_result): assert bpf_result.agree\n"


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest in a process of its own on fake targets; what it printed, and who ran what."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    notes = pytester.path / "notes"
    tests = str(Path(__file__).parent.parent)
    pytester.makeconftest(CONFTEST.format(tests=tests, notes=str(notes)))
    pytester.makepyfile(test_kernel=KERNEL_TEST)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")

    def started(*arguments):
        plugins = ("-p", "xdist.plugin", "-p", "harness.plugin")
        result = pytester.runpytest_subprocess(*plugins, *arguments, timeout=120)
        return result, [line.split() for line in notes.read_text().splitlines()]

    return started


KERNELS = ("--kernel", "6.12", "--kernel", "7.3")


def matrix(result):
    lines = result.stdout.lines
    at = next(i for i, line in enumerate(lines) if "= BPF exceptions =" in line)
    return [line for line in lines[at:] if "short test summary" not in line][:24]


def test_every_case_runs_once_on_each_kernel_and_is_in_the_matrix(run):
    result, notes = run("-n", "2", *KERNELS)
    result.assert_outcomes(passed=36, failed=2, errors=2)
    wanted = [(f"vm-{k}", f"throw/depth/n{i:02}") for k in ("6.12", "7.3") for i in range(20)]
    assert sorted((name, case) for _, name, case in notes) == wanted
    assert len({pid for pid, _, _ in notes}) == 2
    result.stdout.fnmatch_lines(
        [
            "*= BPF exceptions =*",
            "case * hook * simulator * vm-6.12 * vm-7.3",
            "throw/depth",
            *(f"  n{i:02} * test_run *" for i in range(20)),
            "vm-6.12: 6.12.107+deb13-amd64, tcg, JIT on, *: 18 agree, 1 differ, 1 lost of 20",
            "vm-7.3: *: 18 agree, 1 differ, 1 lost of 20",
            "FAILED *vm-6.12-throw/depth/n07-test_run? - retvals?0?: simulator 64, kernel 65",
        ]
    )
    # the same as in a single process
    assert matrix(result) == matrix(run("-n", "0", *KERNELS)[0])


def test_a_worker_that_saw_only_unsupported_cases_says_nothing(run, pytester):
    with (pytester.path / "conftest.py").open("a") as file:
        file.write(
            "\nABSENT = Observation(Verdict.UNSUPPORTED, message='no bpf_throw')\n"
            "ANSWERS.update(dict.fromkeys(ANSWERS, ABSENT))\n"
        )
    result, _ = run("-n", "2", "--kernel", "6.12")
    result.assert_outcomes(skipped=20)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["bpfthrow: vm-6.12: every case was unsupported*"])
    assert result.stdout.str().count("every case was unsupported, yet this kernel should") == 2


def test_a_result_survives_the_way():
    case = Case("a/b", "b.o", "b", "tc", "test_run", Input("in", packet=b"\x00\xff"), needs=("x",))
    seen = Observation(
        Verdict.RAN, (1, 2), data_out=b"\x01", maps={"m": {"00": "ff"}}, log="\udc80\x00",
        duration_s=0.5, provenance=Provenance("vm-6.12", "6.12"),
    )  # fmt: skip
    wrong = Difference("retvals[0]", "1", "2", "rule", ("simulator", "kernel"))
    second = Result(case, "vm-6.12", seen)
    first = Result(case, "vm-6.12", seen, seen, (wrong,), second)
    tested = outcomes.Tested("vm-6.12", "6.12.107", expects_throw=False, seconds=1.5)
    arrived = Arrived({})
    arrived.take(packed(9, second, []))
    arrived.take(packed(3, first, [tested]))
    assert arrived.results() == [first, second]
    assert arrived.tested == {"vm-6.12": tested}
