# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What results count as, the matrix as text, progress."""

import io
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from report_results import (
    ABSENT,
    AGREES,
    ALL,
    CASE,
    CRASHED,
    DIFFERS,
    FLAKY,
    HEADER,
    HUNG,
    LOST,
    RAN,
    REFUSED,
    SIMULATED,
    SPLATTED,
    TWICE,
    WRONG,
    row,
)

from harness.errors import Exit
from harness.model import Observation, Verdict
from harness.report.detail import detail
from harness.report.document import dumps, problems
from harness.report.junit import junit
from harness.report.outcome import Outcome, exit_code, nothing_ran, outcome, summary
from harness.report.progress import Progress
from harness.report.style import PLAIN, Style, style_for
from harness.report.table import render


@pytest.mark.parametrize(
    ("result", "expected"),
    [(AGREES, "agree"), (DIFFERS, "differ"), (REFUSED, "agree"), (ABSENT, "unsupported"),
     (LOST, "lost"), (CRASHED, "crashed"), (HUNG, "hung"), (SPLATTED, "differ"),
     (FLAKY, "flaky"), (TWICE, "crashed"), (replace(SPLATTED, again=ABSENT), "flaky"),
     (replace(DIFFERS, again=LOST), "differ")],
)  # fmt: skip
def test_outcome(result, expected):
    assert outcome(result) == expected
    assert result.agree is (expected == "agree")


def test_summary_adds_up():
    assert summary(ALL) == {
        "cases": 9, "agree": 2, "differ": 2, "rejected": 1, "unsupported": 1, "crashed": 1,
        "hung": 1, "flaky": 1, "lost": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([AGREES], Exit.OK),
        ([AGREES, REFUSED], Exit.OK),
        ([AGREES, DIFFERS], Exit.DIFFERENCE),
        ([AGREES, CRASHED], Exit.DIFFERENCE),
        ([HUNG], Exit.DIFFERENCE),
        ([AGREES, FLAKY], Exit.DIFFERENCE),
        ([AGREES, LOST], Exit.LOST),
        ([DIFFERS, LOST], Exit.DIFFERENCE),
        ([], Exit.LOST),
        ([ABSENT], Exit.OK),
        ([replace(ABSENT, target="vm-6.12")], Exit.DIFFERENCE),
        ([replace(ABSENT, target="vm-6.12"), AGREES], Exit.OK),
        ([replace(ABSENT, target="vm-6.12"), replace(AGREES, target="vm-7.3")], Exit.DIFFERENCE),
        ([replace(ABSENT, target="vm-unheard-of")], Exit.DIFFERENCE),
    ],
)
def test_exit_code(results, code):
    assert exit_code(results, HEADER) is code


def test_a_flaky_case_is_never_green():
    text = render([AGREES, FLAKY], HEADER)
    assert "NO 65" in text
    assert "throw/depth/other [test_run] vm-6.12: flaky: in a fresh guest: 64, without" in text
    assert text.endswith("1 agree, 0 differ, 1 flaky\n")
    assert "flaky: in a fresh guest: 64" in detail(FLAKY, HEADER)
    suite = ET.fromstring(junit([FLAKY], HEADER))[0]
    assert (suite.get("failures"), suite.find("testcase/failure").get("type")) == ("1", "flaky")
    data = json.loads(dumps([FLAKY]))
    assert problems(data) == []
    case = data["cases"][0]
    assert (case["agree"], case["flaky"], case["again"]["agree"]) == (False, True, True)


def test_a_failure_that_comes_again_says_so():
    out = io.StringIO()
    Progress(out).result(TWICE)
    assert "(crashed: in a fresh guest: 65, a failure again)" in out.getvalue()


def test_only_a_negative_control_may_run_nothing():
    absent = replace(ABSENT, target="vm-6.12")
    assert nothing_ran([ABSENT, absent], HEADER) == ("vm-6.12",)


def rows_of(text):
    """The table's lines, without notes and summary."""
    return text.split("\n\n")[0].splitlines()


def test_table():
    text = render([AGREES, DIFFERS, REFUSED], HEADER)
    assert rows_of(text) == [
        "case        hook      simulator  vm-6.12",
        "throw/depth",
        "  static_7  test_run  64         ok 64",
        "  other     test_run  64         NO 65",
        "reject",
        "  scalar    test_run  -          ok rejected",
    ]
    assert "throw/depth/other [test_run] vm-6.12: retvals[0]: simulator 64, kernel 65" in text
    assert (
        "vm-6.12: 6.12.107+deb13-amd64, tcg, JIT on, bpftool v7.5.0: 2 agree, 1 differ of 3"
        " (loads refused: 1)" in text
    )
    assert text.endswith("3 results in 12.5 s: 2 agree, 1 differ\n")


def test_table_with_marks():
    text = render([AGREES, DIFFERS, ABSENT], HEADER, Style())
    assert "✓ 64" in text
    assert "✗ 65" in text
    assert "· unsupported" in text


def test_hooks_with_equal_cells_share_a_row():
    passed = replace(RAN, retvals=(), wire=("pass",))
    dropped = replace(RAN, retvals=(), wire=("drop",))
    simulated = replace(SIMULATED, wire=("pass",))
    results = [
        AGREES,
        *(row(passed, simulated, hook=hook) for hook in ("tc-ingress", "tc-egress", "tcx-ingress")),
        row(dropped, simulated, (WRONG,), hook="tcx-egress"),
    ]
    assert rows_of(render(results, HEADER))[2:] == [
        "  static_7  test_run         64         ok 64",
        "            tc, tcx-ingress  pass       ok pass",
        "            tcx-egress       pass       NO drop",
    ]


def test_two_that_differ_never_share_a_row():
    results = [replace(DIFFERS, case=replace(CASE, hook=h)) for h in ("tc-ingress", "tc-egress")]
    assert len(rows_of(render(results, HEADER))) == 4


def test_targets_side_by_side():
    head, _, cells = rows_of(render([AGREES, ABSENT], HEADER))
    assert head.split() == ["case", "hook", "simulator", "vm-6.12", "vm-6.1"]
    assert cells.split()[2:] == ["64", "ok", "64", "--", "unsupported"]


def test_case_that_did_not_run_on_one_target():
    other = replace(ABSENT, case=replace(CASE, id="throw/depth/more"))
    assert "not run" in rows_of(render([AGREES, other], HEADER))[2]


def test_profiles_that_disagree_are_both_shown():
    other = row(simulated=replace(SIMULATED, retvals=(0,)), target="vm-7.3")
    assert "64 / 0" in render([AGREES, other], HEADER)


def test_simulator_without_a_say_is_visible():
    silent = Observation(Verdict.UNSUPPORTED, message="helper bpf_x")
    text = render([row(simulated=silent)], HEADER)
    assert "no say" in text
    assert "simulator: 1 without a say: helper bpf_x" in text
    assert "simulator: has no say: helper bpf_x" in detail(row(simulated=silent))


def test_reasons_are_grouped():
    text = render([ABSENT] * 3 + [LOST], HEADER)
    assert "vm-6.1: 3 unsupported: kfunc not found" in text
    assert "vm-6.12: 1 lost: console closed" in text


def test_suite_that_ran_nothing_is_named():
    text = render([replace(ABSENT, target="vm-6.12")], HEADER)
    assert "vm-6.12: every case was unsupported, yet this kernel should have exceptions" in text


@pytest.mark.parametrize(
    ("retvals", "cell"),
    [((7, 7, 7), "7 x3"), ((1, 2), "1,2"), ((1, 2, 3, 4), "1,2,3,.."), ((-1,), "0xffffffff"),
     ((), "ran")],
)  # fmt: skip
def test_cells(retvals, cell):
    assert f"ok {cell}\n" in render([row(replace(RAN, retvals=retvals))], HEADER)


def test_loaded_is_not_called_ran():
    assert "ok loaded" in render([row(replace(RAN, retvals=()), hook="load")], HEADER)


def test_colour_only_repeats_the_mark():
    plain = render(ALL, HEADER, Style(colour=False))
    coloured = render(ALL, HEADER, Style(colour=True))
    assert coloured != plain
    for code in ("\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert [line.rstrip() for line in coloured.splitlines()] == plain.splitlines()


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("encoding", "environ", "style"),
    [("utf-8", {}, Style(True, True)), ("ascii", {}, Style(False, True)),
     ("utf-8", {"NO_COLOR": "1"}, Style(True, False)), ("latin-1", {"TERM": "dumb"}, PLAIN)],
)  # fmt: skip
def test_style_of_a_terminal(encoding, environ, style):
    assert style_for(Terminal(io.BytesIO(), encoding=encoding), environ) == style


def test_no_colour_in_a_file():
    assert style_for(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), {}) == Style(True, False)


def test_progress():
    stream = io.StringIO()
    progress = Progress(stream, total=12, style=PLAIN)
    progress.note("booting 6.12")
    absent = row(
        Observation(Verdict.UNSUPPORTED, message="none"), target="vm-6.1", id="throw/depth/more"
    )
    for result in (AGREES, DIFFERS, absent):
        progress.result(result)
    assert stream.getvalue().splitlines() == [
        "# booting 6.12",
        " 1/12 ok vm-6.12 throw/depth/static_7 test_run: kernel 64, simulator 64, 250 ms",
        " 2/12 NO vm-6.12 throw/depth/other test_run: kernel 65, simulator 64, 250 ms (retvals[0])",
        " 3/12 -- vm-6.1 throw/depth/more test_run: kernel unsupported, simulator 64, 0 ms (none)",
    ]


def test_progress_flushes_each_line():
    raw = io.BytesIO()
    progress = Progress(io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8"))
    progress.result(AGREES)
    assert raw.getvalue().decode().endswith("250 ms\n")


def test_progress_outlives_its_reader():
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    Progress(Gone()).result(AGREES)


def test_every_outcome_has_a_mark():
    assert {PLAIN.mark(kind) for kind in Outcome} == {"ok", "NO", "--"}
