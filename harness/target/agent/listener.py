# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An agent that has begun before anybody asks, for guests of ours.

Python's start, its imports and the first look at the machine are most of an agent's start under
software emulation. Here they are over when the agent waits in accept(), which is where a guest is
saved. One connection at a time, a process and a session each; the next is ready soon after. It
listens on the guest's own loopback, which only the guest's sshd reaches.
"""

import importlib
import os
import signal
import socket
import sys

from harness.target.agent import libbpf, loop, spawn

_HOST = "127.0.0.1"
# what a request imports when it first needs it
_LATER = ("facts", "hooks", "namespace", "probe")


def main(identity: str = "") -> int:
    """Announce on stdout that connections are taken, then go into the background.

    sys.argv: ... --listen PORT
    """
    for name in _LATER:
        importlib.import_module(f"harness.target.agent.{name}")
    libbpf.library()
    spawn.loader()
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((_HOST, int(sys.argv[sys.argv.index("--listen") + 1])))
    server.listen()
    ready, announce = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        os.setsid()
        _into_background()
        _serve(server, identity, announce)
    os.close(announce)
    # nothing comes where the first session does not begin: its reason is on the console
    if not os.read(ready, 1):
        return 1
    print("listening", flush=True)
    return 0


def _into_background() -> None:
    # what an agent complains about on stderr is read on the guest's console
    for path, flags, targets in (("/dev/null", os.O_RDONLY, (0,)),
                                 ("/dev/console", os.O_WRONLY | os.O_NOCTTY, (1, 2))):  # fmt: skip
        handle = os.open(path, flags)
        for target in targets:
            os.dup2(handle, target)
        os.close(handle)


def _serve(server: socket.socket, identity: str, announce: int) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    while True:
        child = os.fork()
        if child == 0:
            agent = loop.Agent(identity)
            agent.answer(b'{"op": "hello"}')
            spawn.batch().start()
            if announce >= 0:
                os.write(announce, b".")
                os.close(announce)
            connection, _ = server.accept()
            server.close()
            os.dup2(connection.fileno(), 0)
            os.dup2(connection.fileno(), 1)
            connection.close()
            sys.exit(loop.serve(agent))
        if announce >= 0:
            os.close(announce)
            announce = -1
        os.waitpid(child, 0)
