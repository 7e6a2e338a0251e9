# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""All targets of a run at once, on fake targets."""

import argparse
import json
import threading
import time
from xml.etree import ElementTree as ET

import pytest
from fake_target import FakeTarget, case, lose, ran

from harness import matrix, resume, schedule
from harness.config import Settings
from harness.errors import Exit, MachineLostError, UsageError
from harness.model import Verdict
from harness.report import document

CASES = [case("throw/a"), case("throw/b")]
SPECS = ["vm:6.1", "vm:6.12", "vm:7.3"]


class Opened:
    """A target that is open from here to there."""

    def __init__(self, target, log):
        self.target, self.log = target, log

    def __enter__(self):
        if isinstance(self.target, Exception):
            raise self.target
        self.log.append(("open", self.target.name))
        return self.target

    def __exit__(self, *_):
        self.log.append(("close", self.target.name))
        self.target.close()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a matrix of fake targets: run(targets, jobs=1, **settings); what happened is run.log."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.run.simulate", lambda *_: ran(1))
    monkeypatch.setattr("harness.run.traced", lambda *_: "trace")
    monkeypatch.setattr("harness.suite.collect", lambda *_: list(CASES))
    monkeypatch.setattr(matrix, "_fetch", lambda _: None)
    monkeypatch.setattr("harness.resume._identity", lambda spec: spec)
    monkeypatch.setattr(matrix, "_clang", lambda: "clang version 19")
    log = []

    def started(targets, jobs=1, whole=False, ledger=None, **settings):
        def open_target(spec, *_):
            return Opened(targets[spec], log)

        monkeypatch.setattr(matrix, "open_target", open_target)
        arguments = argparse.Namespace(paths=[], expression="", jobs=jobs, quiet=True)
        plan = matrix.Plan(
            list(targets),
            arguments,
            Settings(**settings),
            time.monotonic(),
            ledger=ledger or resume.Ledger(None),
        )
        return matrix.run(plan, {}) if whole else matrix.run_all(plan, {})

    started.log = log
    return started


def fakes(**answers):
    return {
        spec: FakeTarget(
            spec.replace(":", "-"), dict.fromkeys(("throw/a", "throw/b"), ran(1)) | answers
        )
        for spec in SPECS
    }


def test_shares_keep_the_order_of_the_command_line(run):
    shares = run(fakes(), jobs=3)
    assert [share.spec for share in shares] == SPECS
    assert all([r.case.id for r in share.results] == ["throw/a", "throw/b"] for share in shares)
    assert all(share.tested and share.seconds > 0 for share in shares)


def test_the_longest_begins(run):
    first = run(fakes())[0].results[0]
    schedule.record({spec: [(first, s)] for spec, s in zip(SPECS, (1.0, 3.0, 2.0), strict=True)})
    run.log.clear()
    run(fakes())
    assert [name for what, name in run.log if what == "open"] == ["vm-6.12", "vm-7.3", "vm-6.1"]


def test_only_so_many_side_by_side(run):
    lock, now, most = threading.Lock(), set(), []

    def answer(_):
        with lock:
            now.add(threading.get_ident())
            most.append(len(now))
        time.sleep(0.05)
        with lock:
            now.discard(threading.get_ident())
        return ran(1)

    answers = {"throw/a": answer, "throw/b": answer}
    run({spec: FakeTarget(spec, answers) for spec in SPECS}, jobs=2)
    assert max(most) == 2


def test_what_cases_took_is_kept(run):
    run(fakes())
    known = schedule.durations()
    assert list(known) == SPECS
    assert set(known["vm:7.3"]) == {"throw/a test_run", "throw/b test_run"}


def test_a_kernel_that_cannot_be_had_leaves_the_others_alone(run):
    targets = fakes() | {"vm:6.12": MachineLostError("the keeper ended", evidence="words")}
    shares = run(targets, jobs=2)
    lost = [r.observed for r in shares[1].results]
    assert [seen.verdict for seen in lost] == [Verdict.LOST, Verdict.LOST]
    assert "the keeper ended" in lost[0].message
    assert all(r.agree for share in (shares[0], shares[2]) for r in share.results)


def test_a_kernel_that_dies_on_the_way_leaves_the_others_alone(run):
    targets = fakes()
    targets["vm:6.12"].answers["throw/a"] = lose()
    shares = run(targets, jobs=2)
    assert {r.observed.verdict for r in shares[1].results} == {Verdict.LOST}
    assert all(r.agree for share in (shares[0], shares[2]) for r in share.results)


def test_a_single_machine_that_cannot_be_had_is_an_error(run):
    with pytest.raises(MachineLostError):
        run({"ssh:box": MachineLostError("refused")})


def test_a_mistake_ends_all(run):
    with pytest.raises(UsageError, match="no such image"):
        run(fakes() | {"vm:6.12": UsageError("no such image")}, jobs=3)
    assert not any(thread.name.startswith("ThreadPool") for thread in threading.enumerate())


def test_every_report_has_every_target(run, tmp_path, capsys):
    files = {name: tmp_path / f"r.{name}" for name in ("json", "junit", "html", "markdown")}
    targets = fakes()
    targets["vm:7.3"].answers["throw/b"] = ran(2)
    assert run(targets, jobs=2, whole=True, retries=0, **files) == Exit.DIFFERENCE
    data = json.loads(files["json"].read_text())
    assert document.problems(data) == []
    assert [target["name"] for target in data["targets"]] == ["vm-6.1", "vm-6.12", "vm-7.3"]
    assert data["targets"][2]["seconds"] > 0
    assert data["matrix"][1]["cells"]["vm-7.3"] == {"outcome": "differ", "text": "2"}
    suites = [suite.get("name") for suite in ET.parse(files["junit"]).getroot()]
    assert suites == ["vm-6.1", "vm-6.12", "vm-7.3"]
    printed = capsys.readouterr().out
    for name in suites:
        assert name in files["html"].read_text()
        assert name in files["markdown"].read_text()
        assert f"\n{name}: " in printed


def test_a_report_that_cannot_be_written_loses_neither_table_nor_other_reports(
    run, tmp_path, capsys
):
    junit = tmp_path / "r.xml"
    with pytest.raises(UsageError, match=f"cannot write {tmp_path}: Is a directory"):
        run(fakes(), whole=True, json=tmp_path, junit=junit)
    assert len(ET.parse(junit).getroot()) == 3
    assert "\nvm-7.3: " in capsys.readouterr().out


def test_targets_of_one_name_are_told_apart(run, tmp_path):
    answers = dict.fromkeys(("throw/a", "throw/b"), ran(1))
    trees = {f"vm:tree:/{which}/linux": FakeTarget("vm-7.3~linux", dict(answers)) for which in "ab"}
    trees["vm:tree:/b/linux"].answers["throw/b"] = ran(2)
    file = tmp_path / "r.json"
    assert run(trees, whole=True, retries=0, json=file) == Exit.DIFFERENCE
    data = json.loads(file.read_text())
    assert [each["name"] for each in data["targets"]] == ["vm-7.3~linux", "vm-7.3~linux-2"]
    assert [each["summary"]["differ"] for each in data["targets"]] == [0, 1]
    assert data["matrix"][1]["cells"]["vm-7.3~linux-2"]["outcome"] == "differ"


# ---- interrupted runs ----------------------------------------------------------------------


def _killed(run):
    """A run that ended while 6.12 was at its second case, and 7.3 had not begun."""

    def kill(_):
        raise SystemExit  # as far as one thread can be killed

    chosen = argparse.Namespace(paths=[], expression="", retry_culprit=False)
    ledger = resume.new(chosen, Settings())
    targets = fakes()
    del targets["vm:7.3"]
    targets["vm:6.12"].answers["throw/b"] = kill
    run(targets, ledger=ledger)
    ledger.journal.close()
    return chosen


def test_a_killed_run_is_gone_on_with(run):
    chosen = _killed(run)
    ledger, _ = resume.last(chosen, Settings())
    targets = fakes()
    run.log.clear()
    with ledger:
        shares = run(targets, ledger=ledger)
    assert [name for what, name in run.log if what == "open"] == ["vm-7.3"]
    verdicts = [[str(r.observed.verdict) for r in share.results] for share in shares]
    assert verdicts == [["ran", "ran"], ["ran", "lost"], ["ran", "ran"]]
    assert all(share.tested for share in shares)
    assert resume.CULPRIT in shares[1].results[1].observed.message


def test_the_culprit_is_tried_again_where_that_is_asked_for(run):
    chosen = _killed(run)
    chosen.retry_culprit = True
    ledger, _ = resume.last(chosen, Settings())
    targets = fakes()
    with ledger:
        shares = run(targets, ledger=ledger)
    assert targets["vm:6.12"].log.count("run throw/b") == 1
    assert targets["vm:6.12"].log.count("run throw/a") == 0
    # in the order of the cases, whenever they were had
    assert [r.case.id for r in shares[1].results] == ["throw/a", "throw/b"]
    assert all(r.agree for share in shares for r in share.results)
