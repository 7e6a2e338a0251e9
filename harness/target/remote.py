# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Targets with a kernel of their own: a machine that ssh reaches, and this one.

Both are opt-in, and both refuse cases that can crash a kernel. They need root there, python3 and
bpftool; the agent brings the rest. Host keys come from the user's known_hosts, never from the wire.
What is pushed goes into a directory of its own, which goes with the agent.
"""

import getpass
import os
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import paramiko

from harness.config import Settings
from harness.errors import MachineLostError, UsageError
from harness.kernels.image import should_throw
from harness.model import Case, Observation, Verdict
from harness.target import channel, zipapp
from harness.target.base import FRESH, Facts
from harness.target.client import AgentClient, Push

_CONNECT_TIMEOUT_S = 20.0


class RemoteTarget:
    """A machine that we did not make and must not break."""

    def __init__(self, name: str, client: AgentClient, facts: Facts, cleanup: ExitStack) -> None:
        self.name = name
        self._client = client
        self._facts = facts
        self._cleanup = cleanup
        self._lost: MachineLostError | None = None

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
        if FRESH in case.needs:
            why = "only guests are made anew for a case"
            return Observation(Verdict.UNSUPPORTED, message=f"{FRESH}: {why}")
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

    def renew(self) -> bool:
        """There is only this machine."""
        return False

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


def _client(agent: channel.AgentChannel, push: Push, place: str, settings: Settings) -> AgentClient:
    scale = settings.timeout_scale
    return AgentClient(agent, push, place, scale, statistics=settings.statistics)


def _ask(client: AgentClient) -> Facts:
    hello = client.hello()
    return Facts(
        release=hello["kernel"],
        accelerator="hardware",
        loader=hello["bpftool"],
        expects_throw=should_throw(hello["kernel"]),
    )


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
        remote = f"/run/bpfthrow-{secrets.token_hex(8)}"
        with tempfile.TemporaryDirectory() as scratch:
            archive = zipapp.build_agent(Path(scratch))
            _push_agent(ssh, files, remote, archive)
        # whatever ends the agent, the shell then removes what was pushed: so it needs no
        # connection, and nothing goes that the agent still imports while it cleans up
        command = f"python3 -I -S -B {remote}/agent.pyz; rm -rf {remote}"
        agent = channel.start_agent(transport, command, _CONNECT_TIMEOUT_S)
        stack.callback(agent.close)
        client = _client(agent, files.push, f"{remote}/objects", settings)
        return RemoteTarget(f"ssh-{host}", client, _ask(client), stack.pop_all())


def _push_agent(ssh: paramiko.SSHClient, files: channel.Files, remote: str, archive: Path) -> None:
    try:
        with ssh.open_sftp() as sftp:
            sftp.mkdir(remote, 0o700)  # fails where there is something of that name
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise MachineLostError(
            f"cannot make {remote} on the machine: {error}",
            fix="log in as root; sftp must be enabled there",
        ) from error
    try:
        files.push({f"{remote}/agent.pyz": archive})
    except BaseException:
        with suppress(paramiko.SSHException, EOFError, OSError), ssh.open_sftp() as sftp:
            with suppress(FileNotFoundError):
                sftp.remove(f"{remote}/agent.pyz")
            sftp.rmdir(remote)
        raise


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
        stack.callback(_end, process)
        agent = channel.AgentChannel(channel.PipeStream(process))
        client = _client(agent, _write_files, str(scratch / "objects"), settings)
        return RemoteTarget("local", client, _ask(client), stack.pop_all())


# End of file tells the agent to clean up; then it ends.
def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdin = None
    process.communicate()  # with nothing to send: reads what is left, closes the pipes, waits


def _write_files(files: dict[str, Path | bytes]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
