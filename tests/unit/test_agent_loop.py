# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The agent's protocol, by a process of its own where that matters. No VM, no bpf(2)."""

import json
import subprocess
import sys
import zipfile

import pytest

from harness.errors import WorldError
from harness.target import zipapp
from harness.target.agent import loop


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not an object"),
        (b'{"id": 4}', "unknown op None"),
        (b'{"id": 4, "op": ["run"]}', "unknown op ['run']"),
        (b'{"id": 4, "op": "reboot"}', "one of: hello"),
        (b'{"id": 4, "op": "run"}', "$.case: expected an object"),
        (b'{"id": 4, "op": "run", "case": {"nonsense": 1}}', "unknown key 'nonsense'"),
    ],
)
def test_malformed_request_is_answered(line, says):
    answer = loop.Agent().answer(line)
    assert answer["ok"] is False
    assert answer["error"]["kind"] == "usage"
    assert says in answer["error"]["message"]


def test_answer_carries_the_id():
    assert loop.Agent().answer(b'{"id": "x7", "op": "?"}')["id"] == "x7"


class Broken:
    """A session whose every use is a bug, or the world's fault."""

    def __init__(self, error):
        self.error = error

    def unload(self):
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "evidence"),
    [
        (WorldError("no bpffs", evidence="mount says"), "world", "mount says"),
        (OSError(1, "Operation not permitted"), "world", "Traceback"),
        (ZeroDivisionError("x"), "bug", "Traceback"),
    ],
)
def test_agent_outlives_an_error(error, kind, evidence):
    agent = loop.Agent()
    agent._session = Broken(error)
    answer = agent.answer(b'{"id": 9, "op": "unload"}')
    assert (answer["id"], answer["ok"], answer["error"]["kind"]) == (9, False, kind)
    assert evidence in answer["error"]["evidence"]
    assert agent.answer(b"{}")["ok"] is False


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return zipapp.build_agent(tmp_path_factory.mktemp("agent"))


def test_archive_is_the_same_every_time(archive, tmp_path):
    again = zipapp.build_agent(tmp_path)
    assert again.name == archive.name
    assert again.read_bytes() == archive.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def test_archive_holds_what_the_agent_may_use_and_no_more(archive):
    names = zipfile.ZipFile(archive).namelist()
    assert "harness/target/agent/loop.py" in names
    assert "pyroute2/iproute/linux.py" in names
    strangers = ("harness/sim", "harness/cli", "harness/target/vm", "pyroute2/ndb")
    assert not [name for name in names if name.startswith(strangers)]


def test_archive_imports_everything_it_needs(archive):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from harness.target.agent import hooks, loop, probe\n"
        "assert hooks.__file__.startswith(sys.argv[1])"
    )
    argv = [sys.executable, "-I", "-S", "-B", "-c", script, str(archive)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_archive_speaks_only_json_and_ends_with_its_input(archive):
    requests = b'nonsense\n{"id": 2, "op": "nothing"}\n'
    argv = [sys.executable, "-I", "-S", "-B", str(archive)]
    done = subprocess.run(argv, input=requests, capture_output=True, timeout=60, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [None, 2]
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("how", [TimeoutError, FileNotFoundError, "fails"])
def test_a_builder_that_does_not_come_to_its_end_is_the_worlds_fault(monkeypatch, tmp_path, how):
    def run(argv, **options):
        if how is TimeoutError:
            raise subprocess.TimeoutExpired(argv, options["timeout"])
        if how is FileNotFoundError:
            raise FileNotFoundError(2, "No such file or directory")
        return subprocess.CompletedProcess(argv, 1, "", "its words")

    monkeypatch.setattr(zipapp.subprocess, "run", run)
    with pytest.raises(WorldError, match="cannot be imported"):
        zipapp.build_agent(tmp_path)
    assert list(tmp_path.iterdir()) == []
