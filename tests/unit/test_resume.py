# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What of an interrupted run is found again, and what is not."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys

import pytest

from harness import journal, resume
from harness.config import Settings
from harness.errors import UsageError
from harness.model import Case, Observation, Provenance, Result, Verdict
from harness.report import outcome  # pytest would collect a bare Tested

SPEC = "local"  # a target without a kernel image of ours
TESTED = outcome.Tested("local", "6.12.107", "hardware")


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """Three cases of one object, and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.bpf.o").write_bytes(b"object")
    return [Case(f"t/x/{name}", str(tmp_path / "x.bpf.o"), name, "tc", "load") for name in "abc"]


def _ran(case, verdict=Verdict.RAN):
    seen = Observation(verdict, retvals=(7,), data_out=b"\1", provenance=Provenance("local"))
    return Result(case, "local", seen, Observation(Verdict.RAN))


def _arguments(*paths, expression="", retry_culprit=False):
    return argparse.Namespace(paths=list(paths), expression=expression, retry_culprit=retry_culprit)


def _begin(cases, done=1, settings=None):
    """A run that finished `done` cases, attempted the next one, and was killed."""
    ledger = resume.new(_arguments(), settings or Settings(target="local"))
    ledger.open(SPEC)
    for index, case in enumerate(cases[: done + 1]):
        ledger.attempted(SPEC, case)
        if index < done:
            ledger.result(SPEC, _ran(case), TESTED)
    ledger.journal.close()  # as the end of a process does


def _go_on(*paths, settings=None, **chosen):
    ledger, settings = resume.last(_arguments(*paths, **chosen), settings or Settings())
    ledger.open(SPEC)
    return ledger, settings


def test_results_come_back_whole_and_the_culprit_is_named(cases):
    _begin(cases)
    ledger, settings = _go_on()
    with ledger:
        first, culprit = ledger.earlier(SPEC, cases)
        assert first == _ran(cases[0])
        assert culprit.observed.verdict is Verdict.LOST
        assert culprit.observed.message == f"t/x/b [load] {resume.CULPRIT}"
        assert culprit.target == "local"
        assert ledger.tested(SPEC) == TESTED
        assert settings.target == "local"


def test_the_culprit_runs_again_where_that_is_asked_for(cases):
    _begin(cases)
    ledger, _ = _go_on(retry_culprit=True)
    with ledger:
        assert ledger.earlier(SPEC, cases) == [_ran(cases[0])]
    assert list(journal.interrupted()) == []


def test_a_report_with_a_culprit_leaves_the_choice_open(cases):
    _begin(cases)
    for _ in range(2):
        ledger, _ = _go_on()
        with ledger:
            assert len(ledger.earlier(SPEC, cases)) == 2
    ledger, _ = _go_on(retry_culprit=True)
    ledger.journal.close()


def _interrupt(ledger, case):
    with ledger:
        ledger.open(SPEC)
        ledger.attempted(SPEC, case)
        raise KeyboardInterrupt


def test_an_orderly_interruption_blames_nobody(cases, capsys):
    with pytest.raises(KeyboardInterrupt):
        _interrupt(resume.new(_arguments(), Settings()), cases[0])
    assert "bpfthrow run --resume" in capsys.readouterr().err
    ledger, _ = _go_on()
    with ledger:
        assert ledger.earlier(SPEC, cases) == []


def test_a_second_interruption_does_not_clear_the_culprit_of_the_first(cases):
    _begin(cases)
    ledger, _ = _go_on()
    with pytest.raises(KeyboardInterrupt):
        _interrupt(ledger, cases[2])
    ledger, _ = _go_on()
    with ledger:
        assert [r.case.program for r in ledger.earlier(SPEC, cases)] == ["a", "b"]


def test_a_complete_run_and_one_that_did_nothing_leave_no_journal(cases):
    with resume.new(_arguments(), Settings()) as ledger:
        ledger.attempted(SPEC, cases[0])
        assert list(journal.interrupted()) == []  # it is in use
    with pytest.raises(UsageError), resume.new(_arguments(), Settings()):
        raise UsageError("no such kernel")
    assert list(journal.directory().iterdir()) == []


def test_a_changed_program_runs_again(cases, tmp_path):
    _begin(cases)
    (tmp_path / "x.bpf.o").write_bytes(b"another object")
    ledger, _ = _go_on()
    with ledger:
        assert ledger.earlier(SPEC, cases) == []
        assert ledger.earlier(SPEC, [dataclasses.replace(cases[0], repeat=2)]) == []


def test_a_changed_kernel_runs_everything_again(cases, monkeypatch, capsys):
    _begin(cases)
    monkeypatch.setattr(resume, "_identity", lambda _: "bzImage 2")
    ledger, _ = _go_on()
    with ledger:
        assert ledger.earlier(SPEC, cases) == []
    assert "local is not the kernel that it was" in capsys.readouterr().err


def test_this_machine_with_another_kernel_is_another_one(cases, monkeypatch, capsys):
    _begin(cases)
    elsewhere = os.uname_result(("Linux", "box", "9.9.9", "", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: elsewhere)
    ledger, _ = _go_on()
    with ledger:
        assert ledger.earlier(SPEC, cases) == []


def test_a_lost_machine_is_nothing_to_keep(cases):
    ledger = resume.new(_arguments(), Settings())
    ledger.open(SPEC)
    ledger.attempted(SPEC, cases[0])
    ledger.result(SPEC, _ran(cases[0], Verdict.LOST), None)
    ledger.journal.close()
    ledger, _ = _go_on()
    with ledger:
        assert ledger.earlier(SPEC, cases) == []


def _given(**values):
    return Settings(**values, sources=dict.fromkeys(values, "command line"))


@pytest.mark.parametrize(
    ("paths", "settings"),
    [
        (["other"], Settings()),
        ([], _given(kernel=("7.3",))),
        ([], _given(target="vm")),
    ],
)
def test_another_choice_is_another_run(cases, paths, settings):
    _begin(cases)
    with pytest.raises(UsageError, match="no interrupted run of this choice"):
        _go_on(*paths, settings=settings)


def test_reports_and_patience_may_be_chosen_anew(cases, tmp_path):
    kept = Settings(target="local", json=tmp_path / "a.json", timeout_scale=2.0, kernel=("6.12",))
    _begin(cases, settings=kept)
    ledger, settings = _go_on(settings=_given(json=tmp_path / "b.json"))
    with ledger:
        assert settings.json == tmp_path / "b.json"
        assert (settings.timeout_scale, settings.kernel) == (2.0, ("6.12",))


def test_a_run_of_another_directory_is_not_taken(cases, tmp_path, monkeypatch):
    _begin(cases)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        _go_on()


@pytest.mark.parametrize("cut", [1, 7, 40, 200])
def test_a_line_that_was_cut_short_is_passed_over(cases, cut):
    _begin(cases, done=2)
    (path,) = journal.directory().iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    ledger, _ = _go_on()
    with ledger:
        found = ledger.earlier(SPEC, cases)
        assert [r.case.program for r in found][:2] == ["a", "b"]
        for case in cases[1:]:
            ledger.result(SPEC, _ran(case), None)
        assert len(journal.read(path).results) == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]\n3\n", '{"schema": 9}\n', "\0\xff\n", '{"result": 1}\n']
)
def test_a_file_that_is_no_journal_is_passed_over(cases, text):
    journal.directory().mkdir(parents=True)
    (journal.directory() / "20260101-000000-1.jsonl").write_text(text)
    assert list(journal.interrupted()) == []


def test_a_full_disk_ends_the_journal_and_not_the_run(cases, capsys):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    ledger = resume.new(_arguments(), Settings())
    ledger.journal._file.close()
    ledger.journal._file = Full()
    ledger.attempted(SPEC, cases[0])
    ledger.result(SPEC, _ran(cases[0]), TESTED)
    said = capsys.readouterr().err
    assert said.count("cannot be resumed") == 1
    assert "No space left" in said


def test_a_cache_that_cannot_be_written_is_said(cases, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with resume.new(_arguments(), Settings()) as ledger:
        ledger.attempted(SPEC, cases[0])
    assert "this run cannot be resumed" in capsys.readouterr().err


def test_only_the_last_interrupted_runs_are_kept(cases):
    journal.directory().mkdir(parents=True)
    for number in range(15):
        path = journal.directory() / f"20260101-0000{number:02}-1.jsonl"
        head = {"schema": 1, "selection": {"n": number}, "began": 0}
        path.write_text(json.dumps(head) + "\n")
    journal.begin({}).close()
    assert len(list(journal.directory().iterdir())) == 11


def test_a_killed_process_leaves_what_it_attempted(cases, tmp_path):
    text = (
        "import os, signal; from harness import journal;"
        "j = journal.begin({'directory': 'd'}); j.attempted(('local', 'a', 'load', '0'));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", text], check=False, cwd=os.getcwd())
    assert done.returncode == -9
    (record,) = journal.interrupted()
    assert record.culprits == {("local", "a", "load", "0")}
