# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Machines that are not ours: what is known of them, and that nothing stays behind."""

import argparse
import contextlib
import subprocess

import pytest

from harness import config
from harness.errors import MachineLostError, UsageError, WorldError
from harness.target import remote

# Says what it is told to say to the first request.
_AGENT = """
import json, sys
answer = {answer}
request = json.loads(sys.stdin.readline())
print(json.dumps({{"id": request["id"], **answer}}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def settings():
    """The settings without any option."""
    return config.resolve(argparse.Namespace())


@pytest.fixture
def local(monkeypatch, settings):
    """Opens this machine with an agent that only says hello; the agent's processes."""
    started = []
    popen = subprocess.Popen

    def start(*args, **kwargs):
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(remote.os, "geteuid", lambda: 0)
    monkeypatch.setattr(remote.subprocess, "Popen", start)

    def open_local(answer):
        def build(scratch):
            path = scratch / "agent.py"
            path.write_text(_AGENT.format(answer=repr(answer)))
            return path

        monkeypatch.setattr(remote.zipapp, "build_agent", build)
        return remote.open_local(settings)

    return open_local, started


def _hello(kernel, libbpf="1.5"):
    return {"ok": True, "result": {"kernel": kernel, "bpftool": f"v7 using libbpf v{libbpf}"}}


def _all_closed(process):
    return process.returncode is not None and process.stdout.closed and process.stderr.closed


@pytest.mark.parametrize(("kernel", "throws"), [("6.1.0-50-amd64", False), ("6.12.107", True)])
def test_an_old_kernel_is_not_expected_to_throw(local, kernel, throws):
    open_local, started = local
    target = open_local(_hello(kernel))
    assert target.release == kernel
    assert target.facts.expects_throw == throws
    target.close()
    assert [_all_closed(process) for process in started] == [True]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_hello("6.12.107", "1.1"), UsageError),
        ({"ok": False, "error": {"message": "no bpftool"}}, WorldError),
    ],
)
def test_what_was_opened_is_closed_when_the_machine_will_not_do(local, answer, error):
    open_local, started = local
    with pytest.raises(error):
        open_local(answer)
    assert len(started) == 1
    assert _all_closed(started[0])


class Sftp(contextlib.AbstractContextManager):
    """The machine's files, as far as they are ours."""

    def __init__(self, there=()):
        self.there = set(there)

    def __exit__(self, *_):
        return None

    def mkdir(self, name, mode):
        assert mode == 0o700
        if name in self.there:
            raise OSError("Failure")
        self.there.add(name)

    def remove(self, name):
        if name not in self.there:
            raise FileNotFoundError(name)
        self.there.remove(name)

    def rmdir(self, name):
        assert not [each for each in self.there if each.startswith(f"{name}/")]
        self.there.remove(name)


class Machine:
    """What stands in for the ssh client and for Files."""

    def __init__(self, sftp, *, broken):
        self.open_sftp = lambda: sftp
        self.sftp, self.broken = sftp, broken

    def push(self, files):
        self.sftp.there |= set(files)
        if self.broken:
            raise MachineLostError("cannot push files: no space")


def test_a_push_that_fails_leaves_nothing(tmp_path):
    machine = Machine(Sftp(), broken=True)
    with pytest.raises(MachineLostError, match="no space"):
        remote._push_agent(machine, machine, "/run/bpfthrow-1", tmp_path)
    assert not machine.sftp.there


def test_a_directory_of_somebody_else_is_not_used(tmp_path):
    machine = Machine(Sftp(["/run/bpfthrow-1"]), broken=False)
    with pytest.raises(MachineLostError, match="cannot make /run/bpfthrow-1"):
        remote._push_agent(machine, machine, "/run/bpfthrow-1", tmp_path)
    assert machine.sftp.there == {"/run/bpfthrow-1"}
