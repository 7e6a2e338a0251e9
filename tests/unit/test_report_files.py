# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is said of one result, and the files: JSON, JUnit."""

import json
import shlex
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from report_results import ABSENT, AGREES, ALL, CRASHED, DIFFERS, HEADER, RAN, row

from harness.errors import UsageError
from harness.model import Observation, Verdict
from harness.report import outcome as outcomes  # pytest would collect a bare Tested
from harness.report.detail import detail, evidence, losses, replay
from harness.report.document import document, dumps, observation_object, problems, write
from harness.report.junit import junit
from harness.report.outcome import RunHeader


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
