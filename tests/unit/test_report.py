# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import io
import json
import shlex
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from harness.errors import Exit, UsageError
from harness.model import Case, Difference, Observation, Provenance, Result, Verdict
from harness.report import outcome as outcomes  # pytest would collect a bare Tested
from harness.report.detail import detail, evidence, losses, replay
from harness.report.document import document, dumps, observation_object, problems, write
from harness.report.junit import junit
from harness.report.outcome import (
    Outcome,
    RunHeader,
    exit_code,
    nothing_ran,
    outcome,
    summary,
)
from harness.report.progress import Progress
from harness.report.style import PLAIN, Style, style_for
from harness.report.table import render

HEADER = RunHeader(
    (
        outcomes.Tested("vm-6.12", "6.12.107+deb13-amd64", "tcg", "on", "bpftool v7.5.0"),
        outcomes.Tested(
            "vm-6.1", "6.1.0-50-amd64", "tcg", "on", "bpftool v7.5.0", expects_throw=False
        ),
    ),
    clang="clang version 19.1.7",
    seconds=12.5,
)
CASE = Case("throw/depth/static_7", "build/throw/depth.bpf.o", "static_7", "tc", "test_run")
RAN = Observation(
    Verdict.RAN,
    retvals=(64,),
    log="processed 5 insns",
    duration_s=0.25,
    provenance=Provenance("vm-6.12", "6.12.107+deb13-amd64", "tcg", "on", "bpftool v7.5.0"),
)
SIMULATED = Observation(Verdict.RAN, retvals=(64,), trace="call main\nthrow 64")
WRONG = Difference("retvals[0]", "64", "65", "every run returns it", ("simulator", "kernel"))


def row(observed=RAN, simulated=SIMULATED, differences=(), target="vm-6.12", **case):
    return Result(replace(CASE, **case), target, observed, simulated, differences)


AGREES = row()
DIFFERS = row(replace(RAN, retvals=(65,)), differences=(WRONG,), id="throw/depth/other")
REFUSED = row(
    Observation(Verdict.REJECTED, errno=22, message="R1 is not a scalar", log="1: x\nR1 is not"),
    None,
    id="reject/scalar",
)
ABSENT = row(Observation(Verdict.UNSUPPORTED, message="kfunc not found"), target="vm-6.1")
LOST = row(Observation(Verdict.LOST, message="console closed"))
CRASHED = row(
    Observation(Verdict.CRASHED, message="Oops", kernel_log="line\n" * 100), differences=(WRONG,)
)
HUNG = row(Observation(Verdict.HUNG), differences=(WRONG,))
SPLATTED = row(Observation(Verdict.UNSUPPORTED), differences=(WRONG,))
FLAKY = replace(DIFFERS, again=row(id="throw/depth/other"))
TWICE = replace(CRASHED, again=DIFFERS)
ALL = [AGREES, DIFFERS, REFUSED, ABSENT, LOST, CRASHED, HUNG, SPLATTED, FLAKY]


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


def test_detail_shows_everything():
    result = replace(
        DIFFERS,
        observed=replace(
            DIFFERS.observed, verdict=Verdict.REJECTED, log="5: (85) call\nnope", message="nope",
            kernel_log="WARNING: x", errno=22,
        ),
    )  # fmt: skip
    text = detail(result, HEADER)
    for wanted in (
        "throw/depth/other [test_run] on vm-6.12 (6.12.107+deb13-amd64, tcg, JIT on",
        "retvals[0]: simulator says 64",
        "kernel says 65",
        "rule: every run returns it",
        "simulator: ran: 64",
        "kernel:    rejected (errno 22): nope",
        "throw 64",
        "5: (85) call",
        "WARNING: x",
        "replay: bpfthrow run build/throw/depth.bpf.o -k throw/depth/other --hook test_run",
    ):
        assert wanted in text


def test_log_of_an_accepted_program_is_left_out():
    assert [title for title, _ in evidence(AGREES)] == ["simulator's trace"]


def test_a_lost_machine_is_explained_once_with_its_last_words():
    seen = Observation(
        Verdict.LOST, message="no boot\n  fix: do this", log="[0.1] Linux\n[0.2] VFS"
    )
    (text,) = losses([AGREES, row(seen), row(seen, id="throw/depth/next")])
    assert text.startswith("vm-6.12 lost: no boot\n")
    assert "fix: do this" in text
    assert "[0.2] VFS" in text


def test_long_evidence_is_cut_and_says_so():
    text = dict(evidence(CRASHED))["kernel log"]
    assert "(60 lines omitted, all of them in the JSON)" in text
    assert len(text.splitlines()) == 41


@pytest.mark.parametrize(
    ("target", "words"),
    [("vm-6.12", ["--kernel", "6.12"]), ("vm-deb:6.12*", ["--kernel", "deb:6.12*"]),
     ("local", ["--target", "local"]), ("ssh-box", ["--target", "ssh:box"])],
)  # fmt: skip
def test_replay(target, words):
    assert shlex.split(replay(row(target=target)))[-2:] == words


def test_replay_of_an_image_names_the_image():
    tested = outcomes.Tested("vm-6.12.0-rc1", spec="tree:/src/linux")
    text = detail(row(target="vm-6.12.0-rc1"), RunHeader((tested,)))
    assert text.endswith("--kernel tree:/src/linux")


def test_document_is_valid():
    data = json.loads(dumps(ALL))
    assert problems(data) == []
    assert set(data) == {"schema", "summary", "targets", "matrix", "cases"}
    first = data["cases"][0]
    assert first["kernel"] == "6.12.107+deb13-amd64"
    assert first["observed"]["retval"] == first["simulated"]["retval"] == 64
    assert data["cases"][2]["simulated"] is None
    assert data["cases"][1]["differences"][0]["between"] == ["simulator", "kernel"]


def test_observation_object_carries_bytes_as_hex():
    data = observation_object(replace(RAN, data_out=b"\x00\xff"))
    assert (data["data_out"], data["retval"], data["verdict"]) == ("00ff", 64, "ran")


def broken(change):
    data = document(ALL)
    data = json.loads(json.dumps(data))
    change(data)
    return problems(data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(schema=2), "$.schema"),
        (lambda d: d.pop("summary"), "missing key 'summary'"),
        (lambda d: d.update(extra=1), "unknown key 'extra'"),
        (lambda d: d["summary"].update(agree=3), "$.summary: agree is 3, not 2"),
        (lambda d: d["cases"][0].pop("id"), "$.cases[0]: missing key 'id'"),
        (lambda d: d["cases"][0].update(agree=1), "$.cases[0].agree: is a int"),
        (lambda d: d["cases"][0].update(hook="x"), "unknown hook"),
        (lambda d: d["cases"][0]["observed"].update(verdict="fine"), "unknown verdict"),
        (lambda d: d["cases"][0].update(status="rejected"), "not the observed verdict"),
        (lambda d: d["cases"][1].update(agree=True), "true with differences"),
        (lambda d: d["cases"][1]["differences"][0].pop("rule"), "missing key 'rule'"),
        (lambda d: d["cases"].append(1), "$.cases[9]: not an object"),
    ],
)
def test_validator_finds(change, says):
    assert any(says in problem for problem in broken(change))


def test_write(tmp_path):
    write(tmp_path / "r.json", dumps([AGREES]))
    assert problems(json.loads((tmp_path / "r.json").read_text())) == []
    with pytest.raises(UsageError, match="nowhere"):
        write(tmp_path / "nowhere" / "r.json", "")


def test_junit():
    root = ET.fromstring(junit(ALL, HEADER))
    suites = {suite.get("name"): suite for suite in root}
    suite = suites["vm-6.12"]
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8", "failures": "5", "errors": "1", "skipped": "0",
    }  # fmt: skip
    found = {item.get("name"): item.get("value") for item in suite.find("properties")}
    assert found["kernel"] == "6.12.107+deb13-amd64"
    assert (found["accelerator"], found["jit"]) == ("tcg", "on")
    assert (found["loader"], found["clang"]) == ("bpftool v7.5.0", "clang version 19.1.7")
    failure = suite.find("testcase/failure")
    assert failure.get("message") == "retvals[0]: simulator 64, kernel 65"
    assert "replay: bpfthrow run" in failure.text
    assert suite.find("testcase/error").get("message") == "console closed"
    assert suites["vm-6.1"].find("testcase/skipped").get("message") == "kfunc not found"


def test_junit_never_skips_a_whole_suite_that_should_run():
    root = ET.fromstring(junit([replace(ABSENT, target="vm-6.12")], HEADER))
    assert root.find("testsuite/testcase/failure") is not None


def test_junit_survives_what_xml_cannot_carry():
    result = row(Observation(Verdict.LOST, message="\x00\x1b[31m & <x> \ud800"))
    error = ET.fromstring(junit([result], HEADER)).find("testsuite/testcase/error")
    assert error.get("message") == "??[31m & <x> ?"


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
