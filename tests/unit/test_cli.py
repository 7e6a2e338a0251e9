# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Commands as a user types them: exit codes, messages, no traceback, no guest."""

import json

import pytest

from harness import cli


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
    if verb == "vm":
        out = "".join(command(verb, sub, "--help")[1] for sub in ("up", "down", "list"))
    if verb == "kernels":
        out = command(verb, "list", "--help")[1]
    assert "--json" in out


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
