# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import argparse
import json
from pathlib import Path

import pytest

from harness.config import TABLE, Settings, add_arguments, resolve
from harness.config_command import add_parser
from harness.errors import UsageError


def parse(*words, names=None):
    parser = argparse.ArgumentParser()
    add_arguments(parser, names or [setting.name for setting in TABLE])
    return parser.parse_args(words)


def settle(tmp_path, *words, environ=None):
    return resolve(parse(*words), environ=environ or {}, directory=tmp_path)


def test_defaults_say_default(tmp_path):
    settings = settle(tmp_path)
    assert settings == Settings()
    assert {settings.source(row.name) for row in TABLE} == {"default"}


def test_every_setting_is_a_field():
    fields = set(Settings.__dataclass_fields__) - {"sources"}
    assert fields == {setting.name for setting in TABLE}


def test_precedence(tmp_path):
    """Command line before environment before file before default, each with its source."""
    file = tmp_path / "bpfthrow.toml"
    file.write_text('cpus = 2\nmemory = 300\ntimeout-scale = 2\nkernel = ["6.18"]\n')
    settings = settle(
        tmp_path, "--cpus", "4", environ={"BPFTHROW_CPUS": "3", "BPFTHROW_MEMORY": "400"}
    )
    assert (settings.cpus, settings.source("cpus")) == (4, "command line")
    assert (settings.memory, settings.source("memory")) == (400, "environment BPFTHROW_MEMORY")
    assert (settings.timeout_scale, settings.source("timeout_scale")) == (2.0, f"file {file}")
    assert settings.kernel == ("6.18",)
    assert settings.source("target") == "default"


def test_lists(tmp_path):
    assert settle(tmp_path, "--kernel", "6.12", "--kernel", "7.3").kernel == ("6.12", "7.3")
    assert settle(tmp_path, environ={"BPFTHROW_KERNEL": "6.12, 7.3"}).kernel == ("6.12", "7.3")


@pytest.mark.parametrize(
    ("words", "expected"), [((), False), (("--keep-vm",), True), (("--no-keep-vm",), False)]
)
def test_switch(tmp_path, words, expected):
    assert settle(tmp_path, *words).keep_vm is expected


def test_switch_off_beats_the_file(tmp_path):
    (tmp_path / "bpfthrow.toml").write_text("keep_vm = true\n")
    assert settle(tmp_path).keep_vm
    assert not settle(tmp_path, "--no-keep-vm").keep_vm


def test_pyproject_and_parents(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.bpfthrow]\ncpus = 2\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text("[tool.other]\n")
    assert resolve(None, environ={}, directory=below).cpus == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1\n", "unknown setting 'colour'"),
        ('cpus = "two"\n', "wrong type"),
        ("cpus = true\n", "wrong type"),
        ("cpus = 0\n", "1 or more"),
        ('keep_vm = "yes"\n', "wrong type"),
        ('target = "moon"\n', "ssh:HOST"),
        ("cpus = \n", "bpfthrow.toml"),
    ],
)
def test_bad_file(tmp_path, text, says):
    (tmp_path / "bpfthrow.toml").write_text(text)
    with pytest.raises(UsageError, match=r"bpfthrow\.toml") as caught:
        settle(tmp_path)
    assert says in str(caught.value)


def test_unknown_key_lists_the_known(tmp_path):
    (tmp_path / "bpfthrow.toml").write_text("kernels = ['6.12']\n")
    with pytest.raises(UsageError) as caught:
        settle(tmp_path)
    assert all(setting.name in caught.value.fix for setting in TABLE)


def test_two_files_in_one_directory(tmp_path):
    (tmp_path / "bpfthrow.toml").write_text("cpus = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.bpfthrow]\ncpus = 2\n")
    with pytest.raises(UsageError, match="both hold settings"):
        settle(tmp_path)


def test_unreadable_file_is_an_error(tmp_path):
    (tmp_path / "bpfthrow.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"bpfthrow\.toml"):
        settle(tmp_path)


def test_unknown_variable(tmp_path):
    with pytest.raises(UsageError, match="BPFTHROW_KERNELS"):
        settle(tmp_path, environ={"BPFTHROW_KERNELS": "6.12"})


@pytest.mark.parametrize(
    "words",
    [("--cpus", "-1"), ("--memory", "8"), ("--timeout-scale", "nan"), ("--accelerator", "x"),
     ("--target", "ssh:"), ("--kernel", "")],
)  # fmt: skip
def test_bad_flag_names_the_flag(tmp_path, words):
    with pytest.raises(UsageError, match=words[0]):
        settle(tmp_path, *words)


def run_verb(*words, capsys, monkeypatch, directory):
    monkeypatch.chdir(directory)
    monkeypatch.setenv("BPFTHROW_CPUS", "2")
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["config", *words])
    assert arguments.run(arguments) == 0
    return capsys.readouterr().out


def test_verb(capsys, monkeypatch, tmp_path):
    out = run_verb("--artifacts", "x", capsys=capsys, monkeypatch=monkeypatch, directory=tmp_path)
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["cpus"].endswith("2                            environment BPFTHROW_CPUS")
    assert lines["artifacts"].endswith("command line")
    assert len(lines) == len(TABLE)


def test_verb_json(capsys, monkeypatch, tmp_path):
    out = run_verb("--json", capsys=capsys, monkeypatch=monkeypatch, directory=tmp_path)
    rows = json.loads(out)
    assert rows["cpus"] == {"value": 2, "source": "environment BPFTHROW_CPUS"}
    assert rows["artifacts"] == {"value": str(Path("build/artifacts")), "source": "default"}
