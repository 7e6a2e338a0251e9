# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What docs/ci.md gives to other people: workflows are played, pages' command lines parsed."""

import contextlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys

import pytest
import yaml
from forge import Job, read_outputs
from kernel_tree import FILE, write_programs, write_tree

from harness import cli, setup
from harness.build import CHECKOUT
from harness.kernels import keys

DOCS = CHECKOUT / "docs"
WORKFLOWS = sorted((DOCS / "ci").glob("*.yml"))
CONTAINERFILE = DOCS / "ci/Containerfile"
ACTIONS = {
    "actions/checkout@v4", "actions/cache@v4", "actions/cache/restore@v4",
    "actions/cache/save@v4", "actions/upload-artifact@v4",
}  # fmt: skip


def _load(path):
    return yaml.safe_load(path.read_text())


def _steps(path):
    return [step for job in _load(path)["jobs"].values() for step in job["steps"]]


# ---- form ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_one(path):
    whole = _load(path)
    # "on" is true in YAML 1.1, which the forge knows
    assert set(whole) <= {"name", True, "permissions", "concurrency", "env", "jobs"}
    assert whole["permissions"] == {"contents": "read"}
    for job in whole["jobs"].values():
        assert job["timeout-minutes"] <= 360
        assert job["defaults"]["run"]["shell"] == "bash"
        ids = [step["id"] for step in job["steps"] if "id" in step]
        assert len(set(ids)) == len(ids)
        for step in job["steps"]:
            assert set(step) <= {"name", "id", "if", "uses", "with", "run"}
            assert ("run" in step) != ("uses" in step)
            assert step.get("uses", "actions/checkout@v4") in ACTIONS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_of_a_request_becomes_a_command(path):
    """An expression in a script is text that whoever opens a request may choose."""
    for step in _steps(path):
        assert "${{" not in step.get("run", "")
        if "run" in step:
            subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_step_asks_only_for_what_an_earlier_one_gives(path):
    given = {f"{area}-{what}" for area in ("kernels", "guests", "build", "ccache")
             for what in ("key", "restore", "paths")} | {"cache-hit"}  # fmt: skip
    seen, environment = set(), set(_load(path)["env"])
    for step in _steps(path):
        text = yaml.dump({key: step.get(key, "") for key in ("with", "if")})
        for found in re.findall(r"steps\.(\w+)\.outputs\.([\w-]+)", text):
            assert found[0] in seen, step["name"]
            assert found[1] in given
        assert set(re.findall(r"env\.(\w+)", text)) <= environment
        seen |= {step["id"]} if "id" in step else set()


# ---- command lines -------------------------------------------------------------------------


def _commands(text):
    """The words behind each `bpfthrow` that begins a command of a shell script."""
    for line in text.replace("\\\n", " ").split("\n"):
        # what was printed need not be shell at all
        if not re.search(r"(?:^|[|&;(])\s*bpfthrow\s", line):
            continue
        reader = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        reader.whitespace_split = True
        command, redirected = [], False
        for word in [*reader, ";"]:
            control = bool(word) and set(word) <= set("|&;<>()")
            if control and set(word) & set("<>"):
                redirected = True
            elif control:
                if command[:1] == ["bpfthrow"]:
                    yield command[1:]
                command = []
            elif redirected:
                redirected = False
            else:
                command.append(word)


def _blocks(path):
    """Code of a page: indented or fenced, without prompts and what they printed."""
    fenced = False
    for line in path.read_text().split("\n"):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ ")


def _lines():
    for path in WORKFLOWS:
        for step in _steps(path):
            for words in _commands(step.get("run", "")):
                yield f"{path.name}: {step['name']}", words
    for page in (CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))):
        for words in _commands("\n".join(_blocks(page))):
            if words:
                yield page.name, words
    for line in CONTAINERFILE.read_text().split("\n"):
        if "bpfthrow run" in line:
            yield "Containerfile", line.partition(" bpfthrow ")[2].split()


LINES = [*dict.fromkeys((where, tuple(words)) for where, words in _lines())]
IDS = [f"{where}-{number}" for number, (where, _) in enumerate(LINES)]


def _parse(words):
    words = words[: words.index("--")] if "--" in words else words
    parser = cli.build_parser(words)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        return parser.parse_args(words)


@pytest.mark.parametrize(("where", "words"), LINES, ids=IDS)
def test_every_command_line_is_understood(where, words):
    try:
        _parse(words)
    except SystemExit as error:
        if error.code:
            pytest.fail(f"{where}: bpfthrow {shlex.join(words)}", pytrace=False)


def test_command_lines_are_found_at_all():
    assert len([where for where, _ in LINES if where == "ci.md"]) >= 12
    assert len(LINES) > 50
    assert {words[0] for _, words in LINES} >= {"run", "compare", "kernels", "setup"}
    assert list(_commands('x=1\nbpfthrow run "$A" \\\n  -q || code=$? # no\n')) == [
        ["run", "$A", "-q"]
    ]
    assert list(_commands("a && bpfthrow doctor; bpfthrow run>x")) == [["doctor"], ["run"]]
    with pytest.raises(SystemExit):
        _parse(["run", "--no-such-option"])


# ---- the container -------------------------------------------------------------------------


def _instructions():
    text = CONTAINERFILE.read_text().replace("\\\n", " ")
    return [line.split(None, 1) for line in text.split("\n") if line and line[0] != "#"]


def test_the_container_installs_what_the_set_up_wants_and_starts_bpfthrow():
    found = _instructions()
    assert [name for name, _ in found] == [
        "FROM", "RUN", "COPY", "RUN", "ENV", "RUN", "VOLUME", "WORKDIR", "ENTRYPOINT", "CMD"
    ]  # fmt: skip
    by_name = dict(found)
    assert json.loads(by_name["ENTRYPOINT"]) == ["bpfthrow"]
    _parse(json.loads(by_name["CMD"]))
    for name, text in found:
        if name == "RUN":
            subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    # what make needs before it can install the rest
    assert set(found[1][1].split()) >= {"git", "make", "python3", "python3-venv"}
    targets = re.findall(r"make -C /opt/bpfthrow ([\w-]+)", CONTAINERFILE.read_text())
    makefile = (CHECKOUT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_make_is_told_it_knows(path):
    makefile = (CHECKOUT / "Makefile").read_text()
    scripts = "\n".join(step.get("run", "") for step in _steps(path))
    targets = re.findall(r"^make -C \S*bpfthrow (\S+)", scripts, re.MULTILINE)
    assert targets
    assert all(re.search(rf"^{re.escape(each)}:", makefile, re.MULTILINE) for each in targets)
    wanted = set(setup.packages(["run"]))
    assert wanted  # these come by make, the script names only what make and checkout need
    assert not wanted - {"python3-venv"} & set(scripts.split())


# ---- a job, played -------------------------------------------------------------------------

# Real: keys, builds (with a make that is played), parsing. Played: what needs guests.
BPFTHROW = """#!{python}
import json, os, sys
from pathlib import Path
from harness import cli
from harness.kernels import builder, source
words = sys.argv[1:]
if words[0] not in ("run", "compare", "setup"):
    builder.require_space = source.require_space = lambda *_: None
    builder.tools.own = builder.tools.need
    sys.exit(cli.main(words))
args = vars(cli.build_parser(words).parse_args(words))
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps(words), file=calls)
for name in ("json", "junit", "html", "markdown"):
    path = args.get(f"bpfthrow_{{name}}") or args.get(name)
    if path:
        Path(path).write_text(f"{{words[0]}} {{name}}\\n")
if args.get("summary"):
    with open(args["summary"], "a") as page:
        page.write("what changed\\n")
if words[0] == "run" and "github" in words:
    print("::error file=x.bpf.c,line=1,title=t::words")
sys.exit(int(os.environ.get(f"CODE_OF_{{words[0]}}".upper(), "0")))
"""
SETUP = """
if "setup-build" in words or ".venv/.ready" in words:
    place = words[words.index("-C") + 1] + "/.venv/bin"
    os.makedirs(place, exist_ok=True)
    os.symlink(os.environ["PLAYED"], place + "/bpfthrow")
    sys.exit()
open(os.environ["MADE"], "a").write(" ".join(words) + "\\n")
"""


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Plays a workflow in a new workspace; caches are those of the jobs before."""
    programs = write_programs(tmp_path / "bin")
    make = programs / "make"
    make.write_text(
        make.read_text().replace("words = sys.argv[1:]\n", f"words = sys.argv[1:]{SETUP}")
    )
    played = tmp_path / "played"
    played.write_text(BPFTHROW.format(python=sys.executable))
    (programs / "apt-get").write_text('#!/bin/sh\necho "apt-get $*"\n')
    for script in (played, programs / "apt-get"):
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    repository = write_tree(tmp_path / "repository")
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.org"]

    def commit(*words):
        subprocess.run([*git, *words], check=True, capture_output=True)

    commit("init", "-q")
    commit("add", ".")
    commit("commit", "-qm", "base")
    (tmp_path / "home").mkdir()
    (tmp_path / "store").mkdir()
    caches = {}
    for name, value in {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path / "home"),
        "PLAYED": str(played), "MADE": str(tmp_path / "made"), "CALLS": str(tmp_path / "calls"),
        "CCACHE_DIR": str(tmp_path / "ccache"), "PYTHONPATH": str(CHECKOUT),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    def play(name, content="", env=None):
        if content:
            commit("reset", "-q", "--hard")
            (repository / "kernel/bpf/x.c").write_text(content)
            commit("commit", "-qam", "change")
        for left in ("workspace", "cache", "ccache", "made", "calls"):
            shutil.rmtree(tmp_path / left, ignore_errors=True)
            (tmp_path / left).unlink(missing_ok=True) if (tmp_path / left).is_file() else None
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        (tmp_path / "ccache").mkdir()
        (tmp_path / "ccache/object").write_text("x")
        workspace = tmp_path / "workspace"
        workspace.mkdir()

        def copy(place):
            shutil.copytree(repository, place, dirs_exist_ok=True)

        checkouts = {"linux": copy, ".": copy, "bpfthrow": lambda place: place.mkdir(),
                     ".bpfthrow": lambda place: place.mkdir()}  # fmt: skip
        workflow = _load(DOCS / f"ci/{name}.yml")
        job = Job(workflow, workspace, tmp_path / "store", checkouts, caches, env or {}).run()
        if content:
            commit("reset", "-q", "--hard", "HEAD^")
        return job

    play.made = lambda: (tmp_path / "made").read_text().count("bzImage")
    play.calls = lambda: [
        json.loads(line) for line in (tmp_path / "calls").read_text().split("\n")[:-1]
    ]
    return play


CHANGED = FILE.replace("two", "TWO")


def test_a_kernels_job_builds_runs_compares_and_publishes(play):
    job = play("kernel", CHANGED)
    assert not job.failed, job.stdout
    assert play.made() == 2
    run, compare = play.calls()
    assert run[:5] == ["run", "--kernel", "build:base", "--kernel", "build:change"]
    assert compare[0] == "compare"
    assert "what changed" in job.summary
    assert "run markdown" in job.summary
    assert {"run.json", "junit.xml", "index.html", "compare.json", "compare.txt"} <= set(
        job.uploaded
    )
    assert "::error file=x.bpf.c,line=1,title=t::words" in job.stdout.split("\n")


def test_the_next_job_finds_what_the_first_one_made(play):
    first = play("kernel", CHANGED)
    assert len(first.caches) == 3  # two kernels and the compiled files: no guest was saved here
    again = play("kernel", CHANGED)
    assert not again.failed, again.stdout
    assert (play.made() if (again.workspace.parent / "made").exists() else 0) == 0
    assert again.outputs["ccache"] == {"cache-hit": "true"}
    assert ("Compiled files to the cache", True) not in again.log
    other = play("kernel", FILE.replace("two", "Two"))
    assert play.made() == 1  # the base is there
    assert other.outputs["ccache"] == {"cache-hit": "false"}


def test_code_that_does_not_compile_is_marked_and_what_was_compiled_is_kept(play):
    job = play("kernel", FILE.replace("two", "error"))
    assert job.failed == "Build both kernels"
    mark = "::error file=kernel/bpf/x.c,line=2,title=the kernel does not compile::"
    assert any(line.startswith(mark) for line in job.stdout.split("\n"))
    assert ("Compiled files to the cache", True) in job.log
    assert [key for key in job.caches if "-ccache-" in key]
    assert not [key for key in job.caches if "-build-" in key]
    assert job.summary == ""


@pytest.mark.parametrize(("run", "compare", "failed"), [
    (1, 0, ""), (1, 1, "Compare"), (128, 0, "Run the cases on both")
])  # fmt: skip
def test_the_comparison_decides_unless_the_run_was_none(play, run, compare, failed):
    job = play("kernel", CHANGED, {"CODE_OF_RUN": str(run), "CODE_OF_COMPARE": str(compare)})
    assert job.failed == failed, job.stdout
    assert "run markdown" in job.summary
    assert "index.html" in job.uploaded


@pytest.mark.parametrize("code", [0, 1])
def test_a_programs_job_is_as_good_as_its_run(play, code):
    job = play("programs", env={"CODE_OF_RUN": str(code)})
    assert job.failed == ("Run the programs" if code else ""), job.stdout
    setup_words, run = play.calls()
    assert setup_words == ["setup", "--kernel", "6.12..7.3"]
    assert run[:4] == ["run", "bpf", "--kernel", "6.12..7.3"]
    assert job.summary == "run markdown\n"
    assert {"run.json", "junit.xml", "index.html"} <= set(job.uploaded)


def test_outputs_are_read_as_a_runner_reads_them(cache):
    found = keys.areas(["6.12"], None)
    outputs = read_outputs("\n".join(keys.github(found)))
    assert outputs["kernels-key"] == found[0].key
    assert outputs["kernels-paths"].split("\n") == [str(path) for path in found[0].paths]
    assert outputs["kernels-restore"] == ""
