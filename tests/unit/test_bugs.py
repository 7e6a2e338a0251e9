# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of known kernel bugs, and what a result means by it."""

from dataclasses import replace

import pytest
from fake_target import CRASHED, ran

from harness import bugs, suite
from harness.bugs import BugCase, Judgement, Known, Status
from harness.build import PROGS
from harness.errors import UsageError
from harness.model import Case, Difference, Expectation, Observation, Provenance, Result, Verdict
from harness.target import splats

RUNS = Expectation(Verdict.RAN, retval=42)
REFUSED = Expectation(Verdict.REJECTED, errno=22)
RULES = splats.load_rules()
WARNING = """\
[    9.0] ------------[ cut here ]------------
[    9.1] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2
[    9.2] RIP: 0010:f+0x1/0x2
[    9.3] ---[ end trace 0000000000000000 ]---
"""

NO = Observation(Verdict.REJECTED, message="no", errno=14)


# ---- one result -----------------------------------------------------------------------------


def result(observed, expectation=RUNS, *, differ=(), release="6.12.107"):
    case = Case("kernel-bugs/x/y", "x.bpf.o", "y", "?tc", "test_run", expectation=expectation)
    seen = replace(observed, provenance=Provenance(kernel=release))
    differences = tuple(Difference(path, "a", "b", "rule", ("x", "kernel")) for path in differ)
    return Result(case, "vm-6.12", seen, None, differences)


def found(known, *given, **fields):
    one = result(*given, **fields)
    fine = Known((Status.FINE,))
    case = BugCase("kernel-bugs/x/y", {"6.12": known, "6.18": fine, "7.3": fine})
    bug = bugs.Bug("A", "title", "cause", (case,))
    return bugs.find(bug, case, one, splats.reports(one.observed.kernel_log, RULES))


@pytest.mark.parametrize(
    ("observed", "expectation", "differ", "status"),
    [
        (ran(42), RUNS, (), Status.FINE),
        (ran(43), RUNS, ("retval",), Status.WRONG),
        (ran(42), RUNS, ("globals.hits",), Status.WRONG),
        (ran(42, kernel_log=WARNING), RUNS, ("splats[0]",), Status.WARNED),
        (ran(42), RUNS, ("leaks[0]",), Status.WARNED),
        (ran(43, kernel_log=WARNING), RUNS, ("retval", "splats[0]"), Status.WRONG),
        (ran(42), REFUSED, ("verdict",), Status.ACCEPTED),
        (Observation(Verdict.REJECTED), RUNS, ("verdict",), Status.REJECTED),
        (Observation(Verdict.REJECTED), REFUSED, (), Status.FINE),
        # refused in other words, or with another errno
        (Observation(Verdict.REJECTED), REFUSED, ("messages[0]", "errno"), Status.FINE),
        (Observation(Verdict.REJECTED), REFUSED, ("splats[0]",), Status.WARNED),
        (CRASHED, RUNS, ("verdict",), Status.CRASHED),
        (Observation(Verdict.HUNG), RUNS, ("verdict",), Status.HUNG),
        (Observation(Verdict.UNSUPPORTED), RUNS, (), Status.ABSENT),
        (Observation(Verdict.LOST), RUNS, (), Status.LOST),
        # the kernel says why its process died: that is no loss of a machine
        (Observation(Verdict.LOST, kernel_log=WARNING), REFUSED, (), Status.KILLED),
    ],
)
def test_what_a_kernel_made_of_a_case(observed, expectation, differ, status):
    assert found(Known((Status.FINE,)), observed, expectation, differ=differ).status is status


CRASH = Known((Status.CRASHED,), "NULL pointer", ("jit_subprogs", "bpf_check"))


@pytest.mark.parametrize(
    ("known", "observed", "judgement", "reason"),
    [
        (CRASH, CRASHED, Judgement.KNOWN, "NULL pointer"),
        (CRASH, ran(42), Judgement.FIXED, "known as crashed"),
        (CRASH, Observation(Verdict.HUNG), Judgement.OTHER, "known as crashed here"),
        (Known((Status.FINE,)), ran(42), Judgement.FINE, ""),
        (Known((Status.FINE,)), CRASHED, Judgement.NEW, "NULL pointer"),
        (replace(CRASH, says="int3"), CRASHED, Judgement.OTHER, "nothing says 'int3'"),
        (
            replace(CRASH, functions=("bpf_throw",)), CRASHED, Judgement.OTHER,
            "known in bpf_throw, shown in jit_subprogs < bpf_check < bpf_prog_load",
        ),
        (CRASH, replace(CRASHED, kernel_log="NULL pointer"), Judgement.OTHER, "in no report"),
        (Known((Status.CRASHED,)), CRASHED, Judgement.KNOWN, ""),
        (Known((Status.REJECTED,), errno=14), NO, Judgement.KNOWN, "no"),
        (Known((Status.REJECTED,), errno=22), NO, Judgement.OTHER, "with errno 22, not 14"),
        (Known((Status.HUNG, Status.CRASHED)), CRASHED, Judgement.KNOWN, ""),
        # what an interrupt found a hung kernel in is not what made it hang
        (Known((Status.HUNG,), "x", ("f",)), Observation(Verdict.HUNG), Judgement.KNOWN, ""),
        (Known((Status.HUNG, Status.KILLED)), CRASHED, Judgement.OTHER, "hung or killed"),
        (CRASH, Observation(Verdict.UNSUPPORTED, message="throw: no"), Judgement.ABSENT, "no"),
        (CRASH, Observation(Verdict.LOST, message="console closed"), Judgement.LOST, "closed"),
    ],
)  # fmt: skip
def test_a_result_is_held_against_the_table(known, observed, judgement, reason):
    finding = found(known, observed)
    assert finding.judgement is judgement
    assert reason in finding.reason


def test_the_series_of_the_kernel_decides():
    assert found(CRASH, CRASHED, release="6.18.15").judgement is Judgement.NEW
    assert found(CRASH, ran(42), release="7.4.0-rc1").judgement is Judgement.FINE


def test_a_value_can_be_asked_for():
    known = Known((Status.WRONG,), r"retval b$")
    assert found(known, ran(2), differ=("retval",)).judgement is Judgement.KNOWN


# ---- the table ------------------------------------------------------------------------------


def test_the_table_has_every_program_and_no_other():
    cases = {case.id for case in suite.collect([PROGS / suite.APART])}
    assert [case.id for bug in bugs.load() for case in bug.cases] != []
    assert {case.id for bug in bugs.load() for case in bug.cases} == cases
    assert [bug.letter for bug in bugs.load()] == list("ABCDEFGH")


CASE = """
[[bug]]
letter = "A"
title = "t"
cause = "c"
[[bug.case]]
id = "x"
on."6.12" = { status = "crashed", says = "x", functions = ["f"] }
on."6.18" = { status = ["accepted", "killed"] }
on."7.3" = { status = "fine" }
"""


def test_a_table_that_is_right(tmp_path):
    file = tmp_path / "bugs.toml"
    file.write_text(CASE)
    (bug,) = bugs.load(file)
    assert bug.cases[0].on["6.18"] == Known((Status.ACCEPTED, Status.KILLED))
    assert bug.cases[0].on["6.12"] == Known((Status.CRASHED,), "x", ("f",))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('letter = "A"', "", "bug.0.: missing key 'letter'"),
        ('letter = "A"', "letter = 1", "'letter' has a value of the wrong type .int."),
        ('on."7.3" = { status = "fine" }', "", "on: missing key '7.3'"),
        ('on."7.3"', 'on."7.4"', "unknown key '7.4'"),
        ('"fine"', '"good"', "status 'good'.*\n.*one of fine, crashed"),
        ('"fine"', '"lost"', "status 'lost'"),
        ('"killed"', '"fine"', "several of those that are not fine"),
        ('says = "x"', 'says = "("', "says: missing"),
        ('["f"]', "[1]", "functions are names"),
        ('says = "x"', 'errno = "x"', "'errno' has a value of the wrong type"),
        ('status = "fine"', 'state = "fine"', "unknown key 'state'"),
        ('{ status = "fine" }', '"fine"', "'7.3' has a value of the wrong type"),
        ("[[bug]]", "[bug]", "'bug' has a value of the wrong type"),
        ('letter = "A"', "letter =", "line 3"),
        ('id = "x"', 'id = "A"', "A is there twice"),
    ],
)
def test_a_table_that_is_wrong_says_where(tmp_path, old, new, complaint):
    file = tmp_path / "bugs.toml"
    assert old in CASE
    file.write_text(CASE.replace(old, new))
    with pytest.raises(UsageError, match=complaint) as caught:
        bugs.load(file)
    assert "bugs.toml" in str(caught.value)
