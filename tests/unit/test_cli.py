# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Commands as a user types them: exit codes, messages, no traceback, no guest."""

import json

import pytest

from harness import cli, suite
from harness.model import Observation, Result, Verdict
from harness.report import document

# vm ssh is left out: what it prints is the guest's
SUBCOMMANDS = {
    "vm": ("up", "down", "list", "log"),
    "kernels": ("list", "fetch", "build", "key", "path", "rm"),
}


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Run one command; returns its exit code, standard output and standard error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def run(*words):
        try:
            code = cli.main(list(words))
        except SystemExit as stop:  # argparse's own
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_help_and_json(command, verb):
    code, out, _ = command(verb, "--help")
    assert code == 0
    assert "usage: bpfthrow" in out
    helps = [command(verb, sub, "--help")[1] for sub in SUBCOMMANDS.get(verb, ())]
    assert all("--json" in each for each in helps or [out])


def test_help_names_every_verb_and_the_exit_codes(command):
    code, out, _ = command("--help")
    assert code == 0
    assert all(f"\n    {verb}" in out for verb in cli.VERBS)
    assert "128 a machine was lost" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "arguments are required"),
        (("frobnicate",), "invalid choice"),
        (("run", "no/such/file.bpf.o"), "no/such/file.bpf.o"),
        (("run", "--hook", "tc-sideways"), "unknown hook 'tc-sideways'"),
        (("run", "--kernel", "9.9"), "no kernel is called '9.9'"),
        (("run", "--target", "local", "--kernel", "6.12"), "does not go with"),
        (("run", "--target", "mars"), "mars"),
        (("run", "-k", "nothing_is_called_so", "--list"), "no case is left"),
        (("run", "-k", "and and", "--list"), "and and"),
        (("vm", "log", "x"), "no guest is called 'x'"),
        (("vm", "ssh"), "which guest?"),
        (("vm", "ssh", "--", "uname", "-r"), "which guest?"),
        (("run", "--", "x"), "only `vm ssh` takes a command"),
        (("config", "--cpus", "none"), "cpus"),
        (("sim", "no/such.bpf.o", "--prog", "x"), "no/such.bpf.o"),
    ],
)
def test_a_mistake_is_named_and_costs_exit_code_2(command, words, said):
    code, _, err = command(*words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_file_that_is_no_object_is_refused_before_a_guest_is_had(command, tmp_path):
    broken = tmp_path / "broken.bpf.o"
    broken.write_bytes(b"hello")
    code, _, err = command("run", str(broken), "--list")
    assert code == 2
    assert "broken.bpf.o" in err


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_a_report_without_a_place_is_refused_before_anything_runs(command, tmp_path, option):
    code, out, err = command("run", "--list", option, str(tmp_path / "absent" / "out"))
    assert code == 2
    assert "absent" in err
    assert not out


def test_cases_are_listed_without_a_guest(command):
    code, out, _ = command("run", "-k", "throw/main", "--hook", "test_run", "--list")
    assert code == 0
    assert "throw/main/always test_run" in out.splitlines()


def test_a_list_of_cases_is_written_as_json_in_the_words_of_a_run(command, tmp_path):
    file = tmp_path / "cases.json"
    words = ("run", "-k", "throw/main", "--hook", "test_run", "--list")
    code, out, _ = command(*words, "--json", str(file))
    assert code == 0
    listed = json.loads(file.read_text())
    assert list(listed) == ["schema", "cases"]
    assert listed["schema"] == document.SCHEMA
    assert out.splitlines() == [f"{row['id']} {row['hook']}" for row in listed["cases"]]
    cases = {case.id: case for case in suite.collect() if case.hook == "test_run"}
    assert "throw/main/by_length:small" in {row["id"] for row in listed["cases"]}
    for row in listed["cases"]:
        case = cases[row["id"]]
        whole = document.case_object(Result(case, "vm-6.12", Observation(Verdict.RAN)))
        assert row == {name: whole[name] for name in ("id", "program", "object", "hook")}


def test_a_list_leaves_the_results_of_the_last_run_alone(command, monkeypatch, tmp_path):
    results = tmp_path / "results.json"
    results.write_text("{}")
    monkeypatch.setenv("BPFTHROW_JSON", str(results))
    assert command("run", "-k", "throw/main", "--list")[0] == 0
    assert results.read_text() == "{}"


@pytest.mark.parametrize(
    "option", [("--junit", "x"), ("--html", "x"), ("--markdown", "x"), ("--annotate", "github")]
)
def test_a_list_refuses_what_only_results_have(command, monkeypatch, tmp_path, option):
    monkeypatch.chdir(tmp_path)
    code, out, err = command("run", "--list", *option)
    assert (code, out) == (2, "")
    assert f"{option[0]} is about results" in err


def test_no_guest_is_up_in_a_new_home(command):
    assert command("vm", "list")[:2] == (0, "no guest is up (bpfthrow vm up starts one)\n")
    code, out, _ = command("vm", "list", "--json")
    assert (code, json.loads(out)) == (0, [])
    assert command("vm", "down", "--all")[0] == 0


def test_a_full_disk_is_named_without_a_traceback(command, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/cache/kernels/x")

    monkeypatch.setattr("harness.config_command.run", full)
    code, _, err = command("config")
    assert code == 128
    assert "/cache/kernels/x: No space left on device" in err
    assert "Traceback" not in err


def test_ctrl_c_is_130(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.config_command.run", interrupted)
    assert command("config")[0] == 130
