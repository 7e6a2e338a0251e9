# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness import setup

CHECKOUT = Path(__file__).parents[2]
# an installed path costs less at each start than the finder that pip would put there
PLAIN_PATH = "--config-settings editable_mode=compat"
# what make run, make test and make lint install
PURPOSES = ("setup", "run", "test", "lint")


def test_every_package_says_how_it_is_recognised_and_why_it_is_needed():
    table = setup.packages(PURPOSES)
    assert "qemu-system-x86" in table
    for name, row in table.items():
        assert set(row) == {"has", "why"}, name
        assert row["has"], name
        assert row["why"], name


def test_what_counts_as_there(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert setup.has(str(tmp_path / "file"))
    assert not setup.has(str(tmp_path / "absent"))
    assert setup.has("python:json")
    assert not setup.has("python:no_such_module")
    assert setup.has("sh")
    assert not setup.has("no-such-program")
    assert setup.has("static:busybox")
    shutil.copy(shutil.which("ls"), tmp_path / "busybox")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not setup.has("static:busybox")


def test_script_is_not_a_static_program(tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert not setup.is_static(tmp_path / "script")


def test_any_alternative_is_enough():
    table = {
        "a": {"has": ["no-such-program", "sh"], "why": "x"},
        "b": {"has": ["no-such-program"], "why": "y"},
    }
    assert setup.missing(table) == {"b": "y"}


def test_packages_that_cannot_be_installed_are_named_with_the_command(monkeypatch):
    lost = {"no-such-package": {"has": ["no-such-program"], "why": "boots the guests"}}
    monkeypatch.setattr(setup, "packages", lambda _purposes: lost)
    monkeypatch.setattr(setup, "_may_install", lambda: False)
    with pytest.raises(setup.SetupError) as caught:
        setup.ensure_packages(["run"])
    assert "no-such-package: boots the guests" in str(caught.value)
    assert "apt-get install -y --no-install-recommends no-such-package" in str(caught.value)


def test_nothing_is_installed_when_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(setup, "packages", lambda _purposes: {"a": {"has": ["sh"], "why": "x"}})
    monkeypatch.setattr(setup, "_install", None)
    setup.ensure_packages(["run"])


@pytest.mark.parametrize(
    ("words", "there"),
    [([], False), (["run"], False), (["test"], True), (["lint"], False), (["build"], False)],
)
def test_only_the_tests_install_llvm(monkeypatch, words, there):
    asked = []
    monkeypatch.setattr(setup, "missing", lambda table: asked.extend(table) or {})
    monkeypatch.setattr(setup, "ensure_venv", lambda _: None)
    assert setup.main(words) == 0
    assert ("llvm-19" in asked) == there
    # what a first run fetches is verified, for whatever purpose
    assert {"qemu-system-x86", "debian-archive-keyring", "python3-venv"} <= set(asked)


def test_each_package_has_one_purpose():
    table = tomllib.loads((CHECKOUT / "vm/packages.toml").read_text())
    names = [name for purpose in table.values() for name in purpose]
    assert len(names) == len(set(names))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout whose .venv/bin/python notes what it is asked to do."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    bin_dir = tmp_path / ".venv/bin"
    bin_dir.mkdir(parents=True)
    python = bin_dir / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ntest ! -e {tmp_path}/fail || exit 1\n'
        f"touch {bin_dir}/bpfthrow\n"
    )
    python.chmod(0o755)
    (bin_dir / "pip").touch()
    monkeypatch.setattr(setup, "CHECKOUT", tmp_path)
    monkeypatch.setattr(setup, "VENV", tmp_path / ".venv")

    def asked():
        path = tmp_path / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith("-m pip")]

    return tmp_path, asked


def test_pip_runs_once_and_again_when_the_project_changes(checkout):
    place, asked = checkout
    setup.ensure_venv(["run"])
    setup.ensure_venv(["run"])
    assert asked() == [f"-m pip install -q -e .[test] {PLAIN_PATH}"]
    (place / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    setup.ensure_venv(["run"])
    assert len(asked()) == 2


def test_extras_stay_once_installed(checkout):
    _, asked = checkout
    setup.ensure_venv(["run", "lint"])
    setup.ensure_venv(["run"])
    assert asked() == [f"-m pip install -q -e .[lint,test] {PLAIN_PATH}"]


def test_environment_that_was_moved_is_made_from_scratch(checkout, monkeypatch):
    place, asked = checkout
    setup.ensure_venv(["run"])
    (place / ".venv/old").touch()
    stamp = place / ".venv/.stamp"
    stamp.write_text(stamp.read_text().replace(str(place), "/elsewhere"))
    monkeypatch.setattr(setup.sys, "executable", str(place / "python"))
    (place / "python").write_text(f'#!/bin/sh\necho "$@" >> {place}/made\n')
    (place / "python").chmod(0o755)
    setup.ensure_venv(["run"])
    made = (place / "made").read_text()
    assert made == f"-m venv --clear {place}/.venv\n"
    assert len(asked()) == 2


def test_failed_pip_is_tried_again(checkout):
    place, asked = checkout
    (place / "fail").touch()
    with pytest.raises(setup.SetupError, match="pip could not install"):
        setup.ensure_venv(["run"])
    (place / "fail").unlink()
    setup.ensure_venv(["run"])
    assert len(asked()) == 2


def test_unknown_purpose_is_refused_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-I", CHECKOUT / "harness/setup.py", "fly"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == "setup: unknown purpose 'fly': one of run, test, lint, build, fuzz, exhaustive\n"
    )


def test_set_up_needs_nothing_but_the_standard_library():
    code = (
        "import sys, runpy; runpy.run_path(sys.argv[1], run_name='x');"
        "print([name for name in sys.modules if name.startswith('harness')])"
    )
    argv = [sys.executable, "-I", "-S", "-c", code, CHECKOUT / "harness/setup.py"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# The tests themselves run under make: its variables would reach this one.
def make(*arguments):
    ours = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "KERNELS", "ARGS")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    argv = ["make", *arguments]
    done = subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=True)
    return done.stdout


def test_every_target_of_the_makefile_is_explained():
    words = make("help")
    for target in ("run", "test", "lint", "bench", "clean", "help", "setup"):
        assert f"make {target} " in words


def test_kernels_and_arguments_reach_the_command():
    def commands(*arguments):
        return make("-n", "-o", ".venv/.ready", "-o", ".venv/.ready-test", *arguments)

    assert "bpfthrow run --kernel 6.12 \n" in commands("run")
    assert "--kernel 6.1 --kernel 7.3 -k throw" in commands(
        "run", "KERNELS=6.1 7.3", "ARGS=-k throw"
    )
    assert "pytest --kernel 6.12 --kernel 7.3" in commands("test")


@pytest.mark.parametrize(
    ("target", "purposes"),
    [("run", "run"), ("test", "run test"), ("lint", "run lint"), ("bench", "run")],
)
def test_each_target_sets_up_what_it_needs(target, purposes):
    # as if nothing had been set up
    lines = make("-n", "-B", target).splitlines()
    assert [line.split("setup.py ")[1] for line in lines if "setup.py " in line] == [purposes]


@pytest.mark.parametrize(("says", "good"), [("version 19.1.7", True), ("version 14.0.6", False)])
def test_clang_of_any_name_counts_when_it_is_new_enough(tmp_path, monkeypatch, says, good):
    own = tmp_path / "clang"
    own.write_text(f"#!/bin/sh\necho Debian clang {says}\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLANG", raising=False)
    row = setup.packages(["run"])["clang-19"]
    assert setup.has("clang>=16") == good
    assert ("clang-19" in setup.missing({"clang-19": row})) == (not good)


def test_clang_may_be_named_by_the_environment(tmp_path, monkeypatch):
    own = tmp_path / "my-clang"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", "/nonexistent")
    row = setup.packages(["run"])["clang-19"]
    monkeypatch.setenv("CLANG", str(own))
    assert not setup.missing({"clang-19": row})
    monkeypatch.setenv("CLANG", str(tmp_path / "gone"))
    assert setup.missing({"clang-19": row})


def test_dependencies_are_all_documented_and_no_others():
    text = (CHECKOUT / "docs/dependencies.md").read_text()
    documented = {}
    for section in text.split("\n## ")[1:]:
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
        documented[section.splitlines()[0]] = {
            name.strip() for row in rows[1:] for name in row.split(",")
        }
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())

    def names(requirements):
        return {word.partition(">=")[0] for word in requirements}

    extras = project["project"]["optional-dependencies"]
    assert documented["Python, at run time"] == names(project["project"]["dependencies"])
    assert documented["Python, for the project's own work"] == names(
        [
            *(each for name, extra in extras.items() if name != "jit" for each in extra),
            *project["build-system"]["requires"],
        ]
    )
    assert documented["Debian packages on the host"] == set(setup.packages(PURPOSES))
