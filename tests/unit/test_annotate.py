# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Annotations: which line, what is said of it, and that no text breaks out of its command."""

import dataclasses
import re
from pathlib import Path

import pytest

from harness import annotate, suite, workflow
from harness.build import build
from harness.model import Case, Difference, Observation, Provenance, Result, Verdict
from harness.report import outcome
from harness.report.outcome import RunHeader
from harness.workflow import Annotation, Place

SOURCE = """\
// SPDX-License-Identifier: GPL-2.0-only
#include "exceptions.h"

SEC("tc") __success
int thrower(struct __sk_buff *skb)
{
	bpf_throw(7);
	return 0;
}

SEC("tc") __success
int quiet(struct __sk_buff *skb)
{
	return 3;
}
char _license[] SEC("license") = "GPL";
"""
WRONG = Difference("retvals[0]", "7", "0", "they must be equal", ("simulator", "kernel"))
RELEASE = "6.12.107+deb13-amd64"


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    place = tmp_path_factory.mktemp("project")
    (place / "x.bpf.c").write_text(SOURCE)
    (built,) = build([place / "x.bpf.c"], out_dir=place / "out")
    found = {case.program: case for case in suite.collect([built]) if case.hook == "test_run"}
    return place, found


def _result(case, target="vm-6.12", **fields):
    seen = Observation(Verdict.RAN, retvals=(0,), provenance=Provenance(target, RELEASE))
    values = {"observed": seen, "differences": (WRONG,)} | fields
    return Result(case, target, **values)


def _failed(verdict, **fields):
    return Observation(verdict, provenance=Provenance("vm-6.12", RELEASE), **fields)


def test_a_wrong_value_marks_the_throw(cases):
    place, found = cases
    (one,) = annotate.annotations([_result(found["thrower"])], RunHeader())
    assert one.place == Place(str(place / "x.bpf.c"), 7)
    assert one.title.endswith("/thrower: differ")
    assert one.text.splitlines()[0] == "retvals[0]: simulator says 7, kernel says 0"
    again = one.text.splitlines()[-1]
    assert again.startswith("again: bpfthrow run ")
    assert "/x.bpf.c -k " in again


def test_a_program_that_does_not_throw_is_marked_where_it_begins(cases):
    (one,) = annotate.annotations([_result(cases[1]["quiet"])], RunHeader())
    assert 11 <= one.place.line <= 14


def test_a_refused_program_is_marked_where_the_verifier_stopped(cases):
    log = "0: R1=ctx() R10=fp0\n; bpf_throw(7);\n0: (b7) r1 = 7\n1: (85) call x#7\nR1 is bad\n"
    refused = _failed(Verdict.REJECTED, log=log, errno=22, message="R1 is bad")
    (one,) = annotate.annotations([_result(cases[1]["thrower"], observed=refused)], RunHeader())
    assert one.place.line == 7
    nonsense = dataclasses.replace(refused, log="99: (85) call nowhere\n")
    (one,) = annotate.annotations([_result(cases[1]["thrower"], observed=nonsense)], RunHeader())
    assert one.place.line in (4, 5, 6, 7)


def test_hooks_and_targets_with_the_same_complaint_share_one(cases):
    case = cases[1]["thrower"]
    header = RunHeader((outcome.Tested("vm-7.3", spec="7.3"),))
    live = dataclasses.replace(case, hook="tc-ingress")
    results = [_result(case), _result(live), _result(case, "vm-7.3")]
    (one,) = annotate.annotations(results, header)
    assert "on vm-6.12: test_run, tc-ingress\non vm-7.3: test_run" in one.text


def test_what_is_well_or_was_not_supported_is_not_marked(cases):
    case = cases[1]["quiet"]
    good = _result(case, differences=())
    absent = _result(case, observed=_failed(Verdict.UNSUPPORTED), differences=())
    assert annotate.annotations([good, absent], RunHeader()) == []


def test_a_lost_machine_is_one_warning_without_a_line(cases):
    gone = _failed(Verdict.LOST, message="QEMU went away")
    results = [_result(case, observed=gone, differences=()) for case in cases[1].values()]
    (one,) = annotate.annotations(results, RunHeader())
    assert (one.level, one.place, one.title) == ("warning", Place(), "vm-6.12: lost")
    assert one.text == "lost: QEMU went away\n2 cases without a result"


def test_a_target_that_ran_nothing_is_an_error(cases):
    absent = _result(cases[1]["quiet"], observed=_failed(Verdict.UNSUPPORTED), differences=())
    (one,) = annotate.annotations([absent], RunHeader((outcome.Tested("vm-6.12"),)))
    assert (one.level, one.title) == ("error", "vm-6.12: nothing ran")


def test_the_worst_comes_first_and_the_forge_is_not_given_more_than_it_shows(cases):
    case = cases[1]["quiet"]
    results = [_result(dataclasses.replace(case, id=f"x/{n}")) for n in range(30)]
    oops = _failed(Verdict.CRASHED, message="Oops")
    results.append(_result(dataclasses.replace(case, id="x/crash"), observed=oops))
    found = annotate.annotations(results, RunHeader())
    assert len(found) == annotate.SHOWN
    assert found[0].title == "x/crash: crashed"
    assert found[-1].title == "22 more failures"


def test_an_object_that_cannot_be_read_costs_only_the_line(tmp_path):
    case = Case(id="x/y", object=str(tmp_path / "x.o"), program="y", section="tc", hook="test_run")
    (one,) = annotate.annotations([_result(case)], RunHeader())
    assert one.place == Place()


# ---- workflow commands ---------------------------------------------------------------------

COMMAND = re.compile(r"::(error|warning|notice) ([^\n\r]*?)::([^\n\r]*)")


def _read(line):
    """As a runner reads it: level, properties, text."""
    match = COMMAND.fullmatch(line)
    assert match, line
    pairs = dict(pair.split("=", 1) for pair in match[2].split(","))

    def undo(text, more=()):
        for code, char in (*more, ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            text = text.replace(code, char)
        return text

    extra = (("%3A", ":"), ("%2C", ","))
    return match[1], {key: undo(text, extra) for key, text in pairs.items()}, undo(match[3])


@pytest.mark.parametrize(
    "text", ["100% sure", "a\nb\r\nc", "::error::x", "%0A is no newline", "a: b, c", "ä ✗", ""]
)
def test_any_text_comes_through_and_stays_in_its_command(tmp_path, text):
    one = Annotation("error", f"t {text}", text, Place(str(tmp_path / "d/x,y:z%.bpf.c"), 3))
    (line,) = workflow.github([one], tmp_path)
    assert _read(line) == (
        "error", {"file": "d/x,y:z%.bpf.c", "line": "3", "title": f"t {text}"}, text
    )  # fmt: skip


def test_files_are_named_from_the_checkout(tmp_path):
    def line(file, number=1):
        return workflow.github([Annotation("error", "t", "words", Place(file, number))], tmp_path)

    assert line("progs/x.bpf.c") == ["::error file=progs/x.bpf.c,line=1,title=t::words"]
    assert line("progs/../x.bpf.c", 0) == ["::error file=x.bpf.c,title=t::words"]
    assert line("/elsewhere/x.bpf.c") == ["::error title=t::/elsewhere/x.bpf.c:1%0Awords"]
    assert line("../x.bpf.c")[0].startswith("::error title=t::../x.bpf.c:1")
    assert line("") == ["::error title=t::words"]


def test_the_workspace_is_the_forges_or_here():
    assert workflow.workspace({"GITHUB_WORKSPACE": "/home/me/x"}) == Path("/home/me/x")
    assert workflow.workspace({}) == Path.cwd()
