# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The way into a machine: framing, time-outs, host keys. The other side is a few lines here."""

import socket
import subprocess
import sys
import threading

import paramiko
import pytest

from harness.errors import MachineLostError, WorldError
from harness.target import channel

_ECHO = """
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    exec(request["do"])
"""


@pytest.fixture
def agent():
    """A channel to a process that does what each request says."""
    process = subprocess.Popen(
        [sys.executable, "-c", _ECHO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    yield channel.AgentChannel(channel.PipeStream(process))
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


def _say(text):
    return f"print({text!r}, flush=True)"


def test_a_result_comes_back(agent):
    assert agent.request("x", 5, do=_say('{"id": 1, "ok": true, "result": [1, 2]}')) == [1, 2]


def test_an_answer_in_pieces_is_put_together(agent):
    answer = '{"id": 1, "ok": true, "result": 7}\n'
    pieces = f"for c in {answer!r}: sys.stdout.write(c); sys.stdout.flush()"
    assert agent.request("x", 5, do=pieces) == 7


def test_the_agents_own_error_carries_its_evidence(agent):
    answer = (
        '{"id": 1, "ok": false, "error": {"kind": "world", "message": "no", "evidence": "why"}}'
    )
    with pytest.raises(WorldError, match="agent: no") as caught:
        agent.request("x", 5, do=_say(answer))
    assert caught.value.evidence == "why"
    assert not isinstance(caught.value, MachineLostError)


def test_silence_is_a_time_out(agent):
    with pytest.raises(channel.RequestTimeoutError, match="no answer to 'x'"):
        agent.request("x", 0.2, do="time.sleep(60)")


def test_an_answer_that_comes_late_is_not_taken_for_the_next(agent):
    late = "time.sleep(0.5); " + _say('{"id": 1, "ok": true, "result": "late"}')
    with pytest.raises(channel.RequestTimeoutError):
        agent.request("x", 0.1, do=late)
    assert agent.request("y", 5, do=_say('{"id": 2, "ok": true, "result": "new"}')) == "new"


def test_the_end_of_the_agent_is_a_lost_machine_with_its_last_words(agent):
    with pytest.raises(MachineLostError, match="went away during 'x'") as caught:
        agent.request("x", 5, do="sys.exit('out of memory')")
    assert "out of memory" in caught.value.evidence


def test_garbage_is_a_lost_machine(agent):
    with pytest.raises(MachineLostError):
        agent.request("x", 5, do=_say("this is not JSON"))


class _Server(paramiko.ServerInterface):
    def __init__(self, key):
        self._key = key

    def check_auth_publickey(self, username, key):
        good = key.asbytes() == self._key.asbytes() and username == "root"
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username):
        return "publickey"


def _key():
    return paramiko.ECDSAKey.generate()


@pytest.fixture
def serve():
    """Start an ssh server on one end of a socket pair; returns the other end."""
    transports = []

    def start(host_key, user_key):
        ours, theirs = socket.socketpair()
        transport = paramiko.Transport(theirs)
        transport.add_server_key(host_key)
        transport.start_server(event=threading.Event(), server=_Server(user_key))
        transports.append(transport)
        return ours

    yield start
    for transport in transports:
        transport.close()


def test_the_right_keys_log_in(serve):
    host, user = _key(), _key()
    transport = channel.connect(
        serve(host, user), channel.Login("root", user, host), channel.Deadline(20)
    )
    assert transport.is_authenticated()
    transport.close()


def test_another_host_key_is_refused(serve):
    user = _key()
    with pytest.raises(MachineLostError, match="host key is .* not the one it was given"):
        channel.connect(
            serve(_key(), user), channel.Login("root", user, _key()), channel.Deadline(20)
        )


def test_another_user_key_is_refused(serve):
    host = _key()
    with pytest.raises(MachineLostError, match="ssh refused"):
        channel.connect(
            serve(host, _key()), channel.Login("root", _key(), host), channel.Deadline(20)
        )


def test_a_port_that_closes_is_a_lost_machine():
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(MachineLostError, match="ssh refused"):
        channel.connect(ours, channel.Login("root", _key(), _key()), channel.Deadline(5))
