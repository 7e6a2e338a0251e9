# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A target that is a guest of ours: boots it, or takes a warm one, and survives its crashes.

A crash or a hang costs one case: the guest is thrown away, and the next case finds a new one. A
guest that cannot be had is remembered, so that the rest does not wait for it again.
"""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko

from harness import kernels, tools
from harness.config import Settings
from harness.errors import BpfthrowError, MachineLostError, WorldError
from harness.kernels import Kernel
from harness.model import Case, Observation, Provenance, Verdict
from harness.symbols import Symbols, decode
from harness.target import boot, channel, login, postmortem, saved, symbols, vm
from harness.target.base import FRESH, Facts
from harness.target.client import AgentClient, missing_options
from harness.target.machine import Machine
from harness.target.prepare import AGENT_PORT, PLACE, PUSH_TIMEOUT_S, prepare

_ATTACH_TIMEOUT_S = 20.0
# after a panic QEMU needs a moment to end
_DEATH_S = 3.0


class VirtualTarget:
    """One kernel in guests, one at a time."""

    def __init__(
        self,
        kernel: Kernel,
        machine: Machine,
        settings: Settings,
        guest: vm.Guest | None = None,
    ) -> None:
        self.name = f"vm-{_short_name(kernel)}"
        self._kernel = kernel
        self._machine = machine
        self._settings = settings
        self._guest = guest
        self._client: AgentClient | None = None
        self._facts: Facts | None = None
        # why no guest can be had any more
        self._broken: MachineLostError | None = None
        self._aborted = False
        # a guest died: the next one is asked for symbols, once for each kernel
        self._died = False
        # the guest has run a case; one that wanted it for itself
        self._used = self._spent = False
        # length of its console when the last case had ended
        self._heard = 0
        # whether a restored guest has let nobody in
        self._doubted = False
        # what was probed in earlier guests
        self._features: dict[str, str] = {}
        # read once, when a guest has died
        self._symbols: Symbols | None = None

    def begin(self) -> None:
        """Start the guest without waiting for it: the host has other things to do meanwhile."""
        if self._guest is None:
            self._guest = boot.begin(self._machine, self._settings)

    @property
    def release(self) -> str:
        """Release (uname -r) that the guest will say."""
        return self._machine.release

    @property
    def facts(self) -> Facts:
        """What was found out about the kernel; boots a guest if there has been none."""
        if self._facts is None:
            self._ready()
        assert self._facts is not None
        features = self._client.features if self._client else self._features
        return replace(self._facts, features=features)

    def run(self, case: Case) -> Observation:
        """Run one case; see harness.target.base.Target."""
        alone = self._settings.isolate == "case" or FRESH in case.needs
        # what the guest before held, when it goes
        left = self._separate() if self._spent or (alone and not self._fresh) else ()
        client, guest = self._ready()
        self._used, self._spent = True, alone
        facts = self.facts
        # a guest that dies between two cases does so in the second
        console_from = self._heard
        began = time.monotonic()
        try:
            seen = self._answer(client, case, facts)
        except (channel.RequestTimeoutError, MachineLostError) as error:
            seen = self._dead(guest, console_from, error)
        else:
            self._heard = len(guest.console_text())
        own = seen.provenance
        provenance = replace(
            own,
            source=self.name,
            kernel=own.kernel or facts.release,
            accelerator=facts.accelerator,
            jit=own.jit or facts.jit,
            loader=own.loader or facts.loader,
        )
        duration_s = seen.duration_s or time.monotonic() - began
        leaks = (*seen.leaks, *left)
        return replace(seen, provenance=provenance, duration_s=duration_s, leaks=leaks)

    def _answer(self, client: AgentClient, case: Case, facts: Facts) -> Observation:
        seen = client.run(case, facts)
        if seen.verdict is Verdict.REJECTED and "throw" in case.needs and facts.expects_throw:
            seen = replace(seen, message=self._explain(seen.message, client))
        return seen

    @property
    def _fresh(self) -> bool:
        """Whether nothing has been done in the guest; one that was found warm may hold anything."""
        return not self._used and (self._guest is None or self._guest.lock is None)

    def _separate(self) -> tuple[str, ...]:
        """End a guest that is not to be used any more; what its cases left in it."""
        try:
            left = self.finish()
        except WorldError as error:
            # of that guest only: the next case finds another one all the same
            left = (f"nobody knows what is left ({error.message})",)
        self.renew()
        return tuple(f"by the cases before: {leak}" for leak in left)

    def renew(self) -> bool:
        """A guest of our own, restored or booted, for the next case."""
        if self._aborted or self._broken is not None:
            return False
        guest = self._guest
        if guest is not None and self._fresh:
            return True
        if guest is not None and guest.lock is not None:
            # somebody else's warm guest stays as it is; the next one would be that again
            self._let_go()
            guest.release()
        else:
            self._drop()
        self._guest = boot.new(
            self._machine, detached=self._settings.keep_vm, cold=self._settings.cold
        )
        return True

    def finish(self) -> tuple[str, ...]:
        """Unload everything; what was left behind, or how the kernel ended over it."""
        client, guest = self._client, self._guest
        if client is None or guest is None:
            return ()
        try:
            return client.finish()
        except (channel.RequestTimeoutError, MachineLostError) as error:
            seen = self._dead(guest, self._heard, error)
            if seen.verdict is Verdict.LOST:
                raise
            splats = (f"kernel log: {splat}" for splat in seen.splats)
            return (f"{seen.verdict} when all was unloaded: {seen.message}", *splats)

    def abort(self) -> None:
        """End the running case from another thread; no new guest is booted after it."""
        self._aborted = True
        self._broken = MachineLostError("interrupted")
        guest = self._guest
        if guest is not None and guest.keeper is not None and guest.keeper.stdin is not None:
            guest.keeper.stdin.close()
        elif guest is not None:
            guest.disconnect()

    @property
    def kernel(self) -> Kernel:
        """What the guests boot."""
        return self._kernel

    def text_base(self) -> int:
        """Where _text is in this guest, and in every other one that is restored from its state."""
        return self._ready()[0].text_base()

    def kallsyms(self) -> bytes:
        """The kernel's functions as in a System.map, compressed by zlib."""
        return self._ready()[0].kallsyms()

    def round_trip_s(self) -> float:
        """Seconds that a request to the agent takes that finds nothing to do."""
        return self._ready()[0].round_trip_s()

    @property
    def transport(self) -> paramiko.Transport:
        """The guest's ssh transport, for whoever wants to do something by hand."""
        transport = self._ready()[1].transport
        self._used = True
        assert transport is not None
        return transport

    def close(self) -> None:
        """End the guest, or leave it warm as it was found or asked for."""
        if self._client is not None:
            self._client.close()
            self._client = None
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.release()

    def _ready(self) -> tuple[AgentClient, vm.Guest]:
        if self._broken is not None:
            raise self._broken
        if self._client is None or self._guest is None:
            try:
                self._boot_or_again()
            except MachineLostError as error:
                self._drop()
                self._broken = error
                raise
            except WorldError as error:
                # an agent that does not start, an archive that cannot be built: no machine either
                self._drop()
                self._broken = MachineLostError(
                    error.message, fix=error.fix, evidence=error.evidence
                )
                raise self._broken from error
            except BaseException:
                self._drop()
                raise
        assert self._client is not None
        assert self._guest is not None
        return self._client, self._guest

    def _boot_or_again(self) -> None:
        try:
            self._boot()
        except MachineLostError as error:
            # one that was up, or ended without a word, may have been killed: the kernel is not
            # given up for that
            was_up = self._guest is not None and self._guest.boot_s > 0
            if self._aborted or not (was_up or isinstance(error, login.EndedError)):
                raise
            self._drop()
            tools.say(f"{error.message}; another guest is started in its place")
            self._boot()

    def _boot(self) -> None:
        guest = self._connected()
        factor = guest.scale * self._settings.timeout_scale
        assert guest.transport is not None
        agent = channel.attach_agent(guest.transport, AGENT_PORT, _ATTACH_TIMEOUT_S * factor)
        files = channel.Files(guest.transport, PUSH_TIMEOUT_S * factor)
        statistics = self._settings.statistics
        place = f"{PLACE}/objects"
        self._client = AgentClient(agent, files.push, place, factor, statistics=statistics)
        self._client.remember(self._features)
        # one that was restored is what the one before it was
        if self._facts is None or guest.state is None:
            self._facts = self._facts_of(_hello(self._client, guest.state), guest.boot_s)
        self._heard = len(guest.console_text())
        if self._died:
            self._died = False
            symbols.learn(self._kernel, self._client)

    def _facts_of(self, hello: dict[str, Any], boot_s: float) -> Facts:
        if hello["kernel"] != self._machine.release:
            raise MachineLostError(
                f"the guest runs {hello['kernel']}, not {self._machine.release}",
                fix=f"bpfthrow kernels rm {self._kernel.name}, then fetch it again",
            )
        return Facts(
            release=hello["kernel"],
            accelerator=self._machine.accelerator,
            jit=str(hello.get("jit", "")),
            loader=hello["bpftool"],
            expects_throw=self._kernel.expects_throw,
            boot_s=boot_s,
        )

    def _connected(self) -> vm.Guest:
        self.begin()
        guest = self._guest
        assert guest is not None
        # one that was found warm, or restored, has booted already
        again = guest.boot_s > 0
        try:
            prepare(guest, self._settings.timeout_scale, save=not self._settings.cold)
        except MachineLostError as error:
            if not again or self._broken is not None:
                raise
            guest.stop()
            self._guest = None
            if guest.state is not None:
                self._doubt(guest.state, error)
            else:
                tools.say(f"{error.message}; another one is started in its place")
            return self._connected()
        return guest

    def _doubt(self, state: saved.Saved, error: MachineLostError) -> None:
        # a QEMU that was killed says nothing against its state, unless it happens again
        refused = isinstance(error, saved.StateError) and error.refused
        if refused or self._doubted:
            boot.give_up(state, error.message)
        self._doubted = True

    def _explain(self, message: str, client: AgentClient) -> str:
        # A kernel that should have exceptions and has not is a failure that names the option.
        why = client.missing("throw")
        if not why:
            return message
        options = ", ".join(missing_options(self._kernel.config)) or why
        return f"{message} [this kernel should have bpf_throw and has not: {options}]"

    def _dead(self, guest: vm.Guest, console_from: int, error: WorldError) -> Observation:
        hung = isinstance(error, channel.RequestTimeoutError)
        verdict = Verdict.HUNG if hung else Verdict.LOST
        if self._aborted:
            patience = postmortem.Patience(0.0, 0.0)
        else:
            patience = postmortem.Patience(_DEATH_S, guest.scale * self._settings.timeout_scale)
        seen = postmortem.examine(guest, console_from, verdict, error, patience)
        self._drop()
        self._died = True
        # the next guest is restored while the host reads symbols; where it cannot be had, the next
        # case hears of it
        if not self._aborted:
            with suppress(BpfthrowError, OSError):
                self.begin()
        with suppress(BpfthrowError, OSError):  # a tree that is being built: a log without names
            self._symbols = self._symbols or symbols.at_hand(self._kernel)
        log = decode(seen.kernel_log, self._symbols) if self._symbols else seen.kernel_log
        return replace(seen, kernel_log=log, provenance=Provenance(kernel=self._machine.release))

    def _let_go(self) -> None:
        self._used = self._spent = False
        client, self._client = self._client, None
        if client is not None:
            self._features |= client.features
            client.close()
        self._guest = None

    def _drop(self) -> None:
        guest = self._guest
        self._let_go()
        if guest is None:
            return
        # an interrupted run leaves a guest that it found as it found it
        if self._aborted:
            guest.release()
        else:
            guest.stop()


def _hello(client: AgentClient, state: saved.Saved | None) -> dict[str, Any]:
    # a tenth of a second of a guest that was just restored
    if state is None:
        return client.hello()
    answer = state.hello()
    if answer is None:
        answer = client.hello()
        state.keep_hello(answer)
    return answer


def _short_name(kernel: Kernel) -> str:
    # trees of one release are told apart by their directory
    if kernel.name != kernel.release:
        return kernel.name
    place = Path(kernel.origin.removeprefix("tree:"))
    directory = place.name if kernel.origin.startswith("tree:") else place.parent.name
    return f"{kernel.release}~{directory}" if directory else kernel.release


def open_vm(spec: str, settings: Settings, begun: boot.Begun | None = None) -> VirtualTarget:
    """A target for the one kernel that `spec` names; its guest is being started, or `begun` is."""
    kernel = begun.kernel if begun else kernels.resolve(spec)
    machine = begun.guest.machine if begun else boot.machine_for(kernel, settings)
    target = VirtualTarget(kernel, machine, settings, begun.guest if begun else None)
    target.begin()
    return target
