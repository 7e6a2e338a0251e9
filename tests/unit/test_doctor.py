# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import argparse
import json

import pytest

from harness import doctor
from harness.doctor import Row, Status
from harness.errors import Exit, UsageError, WorldError


@pytest.fixture
def run(capsys):
    """Runs `bpfthrow doctor ...`; (exit code, text)."""

    def run(*words):
        parser = argparse.ArgumentParser()
        doctor.add_parser(parser.add_subparsers())
        code = doctor.run(parser.parse_args(["doctor", *words]))
        return code, capsys.readouterr().out

    return run


def only(monkeypatch, **checks):
    monkeypatch.setattr(doctor, "_CHECKS", checks)
    monkeypatch.setattr(doctor, "_accelerator", lambda _refresh: iter(()))


def raising(error):
    def check():
        raise error

    return check


def test_all_ok_is_zero(run, monkeypatch):
    only(monkeypatch, a=lambda: [Row("a", Status.OK, "fine")])
    code, text = run()
    assert code == Exit.OK
    assert text.split() == ["ok", "a", "fine"]


def test_one_missing_thing_decides_and_names_its_repair(run, monkeypatch):
    only(
        monkeypatch,
        a=lambda: [Row("a", Status.OK, "fine")],
        b=lambda: [Row("b", Status.MISSING, "not there", "make setup")],
    )
    code, text = run()
    assert code == Exit.USAGE
    assert "repair: make setup" in text
    code, text = run("--json")
    assert json.loads(text) == {
        "ok": False,
        "checks": [
            {"name": "a", "status": "ok", "detail": "fine", "repair": ""},
            {"name": "b", "status": "missing", "detail": "not there", "repair": "make setup"},
        ],
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("not installed", fix="make setup"), Status.MISSING),
        (WorldError("does not answer"), Status.WRONG),
        (OSError(13, "Permission denied"), Status.WRONG),
    ],
)
def test_a_check_that_fails_is_a_row(monkeypatch, error, status):
    only(monkeypatch, a=raising(error))
    (row,) = doctor.examine()
    assert (row.name, row.status) == ("a", status)


def test_empty_cache_lacks_kernels_root_and_probe(cache):
    rows = {row.name: row for row in doctor.examine()}
    for name in ("kernels", "guest root", "accelerator"):
        assert rows[name].status is Status.MISSING, name
        assert rows[name].repair.startswith("bpfthrow "), name
    assert rows["permissions"].status is Status.OK


def test_every_row_that_is_not_ok_has_a_repair(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor.tools, "_ALSO", str(tmp_path))
    rows = doctor.examine()
    assert {"QEMU", "clang", "busybox"} <= {row.name for row in rows if row.status is not Status.OK}
    assert not [row for row in rows if row.status is not Status.OK and not row.repair]


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("echo 'Debian clang version 14.0.6'", "16 or newer is needed"),
        (
            "case $1 in --version) echo clang version 19.1.7;; *) echo '  x86 - X86';; esac",
            "no BPF",
        ),
        ("echo unhappy >&2; exit 1", "unhappy"),
    ],
)
def test_clang_that_is_there_but_wrong(monkeypatch, tmp_path, script, detail):
    clang = tmp_path / "clang"
    clang.write_text(f"#!/bin/sh\n{script}\n")
    clang.chmod(0o755)
    monkeypatch.setenv("CLANG", str(clang))
    (row,) = doctor._checked("clang", doctor._clang)
    assert row.status is Status.WRONG
    assert detail in row.detail


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("{}", Status.OK),
        ('{"default_opts": {"memory": "333M"}}', Status.OK),
        ("{", Status.WRONG),
        ("[]", Status.WRONG),
        ('{"systemd": {"fstab": "/etc/fstab"}}', Status.WRONG),
    ],
)
def test_the_machines_virtme_configuration(tmp_path, text, status):
    (tmp_path / "virtme-ng.conf").write_text(text)
    (row,) = doctor._virtme_configuration(tmp_path / "virtme-ng.conf")
    assert row.status is status
    assert bool(row.repair) == (status is not Status.OK)


def lack(monkeypatch, *names):
    """Have packages look as if they were not installed."""
    missing = doctor.setup.missing

    def lacking(table):
        gone = {name: row | {"has": ["no-such-program"]} for name, row in table.items()}
        return missing({name: gone[name] if name in names else table[name] for name in table})

    monkeypatch.setattr(doctor.setup, "missing", lacking)


@pytest.fixture
def fetched(monkeypatch):
    """A cache that holds all that a run would fetch."""
    monkeypatch.setattr(doctor, "_all_fetched", lambda: True)


def test_what_only_tests_need_is_shown_and_does_not_fail(run, fetched, monkeypatch):
    lack(monkeypatch, "llvm-19")
    only(monkeypatch, packages=doctor._packages)
    code, text = run()
    assert code == Exit.OK
    (line,) = [line for line in text.splitlines() if line.startswith("optional")]
    assert "packages (test)  llvm-19: what the disassembler's tests are held against" in line
    assert "apt-get install -y --no-install-recommends llvm-19" in text
    code, text = run("--json")
    assert code == Exit.OK
    assert json.loads(text)["ok"] is True


def test_what_a_run_needs_fails(run, fetched, monkeypatch):
    lack(monkeypatch, "zstd", "llvm-19")
    only(monkeypatch, packages=doctor._packages)
    code, text = run()
    assert code == Exit.USAGE
    assert text.startswith("missing  packages         zstd: ")


def test_what_verifies_downloads_is_needed_while_something_is_to_be_fetched(
    run, fetched, monkeypatch
):
    lack(monkeypatch, "debian-archive-keyring")
    only(monkeypatch, packages=doctor._packages)
    code, text = run()
    assert code == Exit.OK
    assert "only what is not set up yet needs it" in text
    monkeypatch.setattr(doctor, "_all_fetched", lambda: False)
    code, text = run()
    assert code == Exit.USAGE
    assert "missing  packages         debian-archive-keyring: verifies" in text


def test_an_empty_cache_is_not_all_that_a_run_wants(cache):
    assert not doctor._all_fetched()


def test_little_space_is_wrong(cache, monkeypatch):
    monkeypatch.setattr(doctor, "_SPACE_BYTES", 1 << 60)
    (row,) = doctor._disk()
    assert row.status is Status.WRONG
    assert row.repair == "bpfthrow kernels rm --unused"


@pytest.mark.parametrize(
    ("requirement", "found", "expected"),
    [
        ("paramiko>=4.0", "5.1.0", ""),
        ("paramiko>=4.0", "4.0", ""),
        ("virtme-ng>=1.42", "1.9", "virtme-ng 1.9 is older than 1.42"),
        ("virtme-ng>=1.42", None, "virtme-ng is missing"),
        ("pyroute2", "0.1", ""),
        ("x>=2 ; python_version < '4'", "1", "x 1 is older than 2"),
    ],
)
def test_python_requirements(requirement, found, expected):
    assert doctor.requirement_trouble(requirement, found) == expected
