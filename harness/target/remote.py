# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Targets with a kernel of their own: a machine that ssh reaches, and this one.

Both are opt-in, and both refuse cases that can crash a kernel. They need root there, python3 and
bpftool; the agent brings the rest. Host keys come from the user's known_hosts, never from the wire.
"""

import getpass
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import paramiko

from harness.config import Settings
from harness.errors import MachineLostError, UsageError
from harness.model import Case, Observation, Verdict
from harness.target import channel, zipapp
from harness.target.base import Facts
from harness.target.client import AgentClient

_CONNECT_TIMEOUT_S = 20.0
_PLACE = "/run/bpfthrow"


class RemoteTarget:
    """A machine that we did not make and must not break."""

    def __init__(self, name: str, client: AgentClient, cleanup: ExitStack) -> None:
        self.name = name
        self._client = client
        self._cleanup = cleanup
        self._lost: MachineLostError | None = None
        hello = client.hello()
        self._facts = Facts(
            release=hello["kernel"], accelerator="hardware", loader=hello["bpftool"]
        )

    @property
    def release(self) -> str:
        """Release (uname -r) of the machine."""
        return self._facts.release

    @property
    def facts(self) -> Facts:
        """What the agent said of the machine."""
        return replace(self._facts, features=self._client.features)

    def run(self, case: Case) -> Observation:
        """Run one case; see harness.target.base.Target."""
        if self._lost is not None:
            raise self._lost
        if case.crashes:
            return Observation(
                Verdict.UNSUPPORTED,
                message=f"may crash a kernel ({case.crashes}): only guests run it",
            )
        began = time.monotonic()
        try:
            seen = self._client.run(case, self._facts)
        except (MachineLostError, channel.RequestTimeoutError) as error:
            # nobody knows what state the machine is in
            self._lost = MachineLostError(error.message, evidence=error.evidence)
            raise self._lost from error
        provenance = replace(
            seen.provenance, source=self.name, accelerator="hardware", kernel=self._facts.release
        )
        duration_s = seen.duration_s or time.monotonic() - began
        return replace(seen, provenance=provenance, duration_s=duration_s)

    def finish(self) -> tuple[str, ...]:
        """Unload everything; what was left behind."""
        return self._client.finish()

    def abort(self) -> None:
        """End the agent from another thread; it cleans up."""
        self._lost = MachineLostError("interrupted")
        self._client.close()

    def close(self) -> None:
        """End the agent, which takes everything of ours off the machine."""
        self._client.close()
        self._cleanup.close()


def open_ssh(place: str, settings: Settings) -> RemoteTarget:
    """A target for "[USER@]HOST[:PORT]": keys from the agent or ~/.ssh, host from known_hosts."""
    user, _, rest = place.rpartition("@")
    host, _, port = rest.partition(":")
    if not host or (port and not port.isdecimal()):
        raise UsageError(f"ssh:{place}: not a host", fix="ssh:[USER@]HOST[:PORT]")
    ssh = paramiko.SSHClient()
    ssh.load_system_host_keys()
    ssh.set_missing_host_key_policy(paramiko.RejectPolicy())
    with ExitStack() as stack:
        stack.callback(ssh.close)
        try:
            ssh.connect(
                host, int(port or 22), user or getpass.getuser(), timeout=_CONNECT_TIMEOUT_S
            )
        except (paramiko.SSHException, OSError) as error:
            raise MachineLostError(
                f"ssh:{place}: {error}",
                fix=f"try `ssh {rest}` by hand; its host key must be in known_hosts",
            ) from error
        transport = ssh.get_transport()
        assert transport is not None
        files = channel.Files(transport)
        with tempfile.TemporaryDirectory() as scratch:
            archive = zipapp.build_agent(Path(scratch))
            files.push({f"{_PLACE}/agent.pyz": archive})
        agent = channel.start_agent(
            transport, f"exec python3 -I -S -B {_PLACE}/agent.pyz", _CONNECT_TIMEOUT_S
        )
        client = AgentClient(agent, files.push, f"{_PLACE}/objects", settings.timeout_scale)
        return RemoteTarget(f"ssh-{host}", client, stack.pop_all())


def open_local(settings: Settings) -> RemoteTarget:
    """A target that is the machine we run on. UsageError unless root."""
    if os.geteuid() != 0:
        raise UsageError("--target local loads programs into this kernel and needs root")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bpfthrow-local-")))
        archive = zipapp.build_agent(scratch)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(archive)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        stack.callback(process.wait)
        agent = channel.AgentChannel(channel.PipeStream(process))
        stack.callback(agent.close)
        client = AgentClient(agent, _write_files, str(scratch / "objects"), settings.timeout_scale)
        return RemoteTarget("local", client, stack.pop_all())


def _write_files(files: dict[str, Path | bytes]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
