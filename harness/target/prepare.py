# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From a guest that was started to one with a listening agent, which is saved once it has that.

Owns how the agent gets into a guest and starts there.
"""

import shlex

import paramiko

from harness.errors import MachineLostError
from harness.target import channel, vm
from harness.target.deadline import Deadline

PLACE = "/run/bpfthrow"
# on the guest's own loopback; sshd_config permits it
AGENT_PORT = 7117
PUSH_TIMEOUT_S = 30.0
_START_TIMEOUT_S = 60.0
# a guest that is up already lets us in at once, or never
_WARM_TIMEOUT_S = 40.0
# Python starts and reads what the agent will need of the standard library while the archive is
# still on its way; then it waits for the archive, and for the guest's init, which may be mounting.
_BOOTSTRAP = """
import base64, contextlib, ctypes, dataclasses, enum, json, os, signal, socket, subprocess, sys
import time, traceback, typing, zipimport
archive = sys.argv[1]
while not all(map(os.path.exists, (sys.argv[2], archive + ".pushed"))):
    time.sleep(0.01)
sys.path.insert(0, archive)
exec(zipimport.zipimporter(archive).get_code("__main__"))
"""


def prepare(guest: vm.Guest, scale: float, *, save: bool) -> None:
    """Connect to a guest; one without an agent gets it, and is saved if that is wanted.

    MachineLostError when the guest, or its agent, cannot be had.
    """
    warm = guest.boot_s > 0
    vm.connect(guest, (_WARM_TIMEOUT_S if warm else vm.BOOT_TIMEOUT_S) * scale)
    if guest.prepared:
        return
    assert guest.transport is not None
    _start_agent(guest.transport, guest, scale)
    guest.prepared = True
    guest.note(prepared=True)
    if save:
        vm.save(guest)


def _start_agent(transport: paramiko.Transport, guest: vm.Guest, scale: float) -> None:
    archive = guest.machine.agent
    remote = f"{PLACE}/{archive.name}"
    argv = ["/usr/bin/python3", "-I", "-S", "-B", "-c", _BOOTSTRAP, remote, f"{PLACE}/ready"]
    argv += ["--listen", str(AGENT_PORT)]
    factor = guest.scale * scale
    deadline = Deadline(_START_TIMEOUT_S * factor)
    try:
        with channel.limited(transport, deadline.left_s()):
            session = transport.open_session(timeout=deadline.left_s())
            session.exec_command(f"exec {shlex.join(argv)}")
            files = channel.Files(transport, PUSH_TIMEOUT_S * factor)
            files.push({remote: archive, f"{remote}.pushed": b""})
            said = session.makefile("rb").readline()
            words = b"" if said == b"listening\n" else session.makefile_stderr("rb").read()
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise MachineLostError(f"the agent cannot be started: {error}") from error
    if said != b"listening\n":
        text = words.decode(errors="replace").strip()
        reason = text.splitlines()[-1] if text else f"it said {said!r}"
        raise MachineLostError(f"the agent does not start: {reason}", evidence=text)
