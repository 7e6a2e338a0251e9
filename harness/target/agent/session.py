# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The agent's state between requests: the loaded object, the kernel log, the first census.

One object is loaded at a time. A case starts with the maps as they were after load and ends with
its companions and attachments gone.
"""

import fcntl
import functools
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError, WorldError
from harness.hooks import HOOKS
from harness.model import Case, Loading, Observation, Provenance, Verdict
from harness.target.agent import (
    companions,
    jited,
    kmsg,
    leaks,
    loading,
    maps,
    namespace,
    slots,
    syscall,
    testrun,
    tracers,
    tracing,
    verifierlog,
)
from harness.target.agent.loading import Loaded, Program
from harness.target.agent.verifierlog import Refusal

if TYPE_CHECKING:
    from harness.target.agent.hooks import Hooks, Shot

BPFFS = "/sys/fs/bpf"
RUN = "/run/bpfthrow"
_LOCK_WAIT_S = 10.0


class Session:
    """Everything that one agent process holds; close() gives it all back."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None
        self._loads = 0
        self._hooks: Hooks | None = None
        # why this kernel has no wire: asked once
        self._no_hooks: syscall.KernelError | None = None
        with ExitStack() as stack:
            stack.callback(os.close, _lock())
            # on bpffs, ours alone
            self.directory = _pin_directory()
            stack.callback(_forget, self.directory)
            for name in namespace.NAMES:
                namespace.remove(name)  # a killed agent's
            self.log = kmsg.KernelLog()
            stack.callback(self.log.close)
            self._before = leaks.census()
            self._stack = stack.pop_all()
        # everything made so far has an id up to this
        self._mark: leaks.Mark = {}
        # hooks of the loaded object on which both ways of attaching were held together
        self._cross_checked: set[str] = set()

    def run(self, case: Case, path: str, *, statistics: bool = False) -> Observation:
        """Run one case with the object at `path` on this machine.

        `statistics`: the log of an accepted program holds what the verifier counted.
        """
        if case.hook not in HOOKS:
            raise UsageError(f"{case.id}: unknown hook {case.hook!r}", fix=", ".join(HOOKS))
        self.log.arm()
        if case.crashes:
            # after a leak of the preemption count the next fault of a page ends the process, unless
            # it was rescheduled before: that is not to be left to chance
            syscall.keep_in_memory()
        started = time.monotonic()
        loaded = self._object(path, case.loading, statistics=statistics)
        program = loaded.program(case.program, case.loading)
        if isinstance(program, Refusal):
            seen = _refused(program)
        else:
            loaded.spend(program, companions=bool(case.companions))
            seen = self._run_loaded(case, program, path)
        return replace(
            seen,
            kernel_log=self.log.window(),
            duration_s=time.monotonic() - started,
            provenance=replace(seen.provenance, kernel=os.uname().release, jit=jit()),
        )

    def _run_loaded(self, case: Case, program: Program, path: str) -> Observation:
        if HOOKS[case.hook].live:
            self.hooks.prepare(case.hook)
        self._mark = leaks.mark(self._mark)
        for entry in program.maps:
            maps.reset(entry)
        with (
            slots.filled(program, case.tail_calls, self._beside) as missing,
            companions.attached(path, program, case.companions) as refusal,
        ):
            if refused := missing or refusal:
                return _refused(refused)
            if case.crashes:
                jited.announce(program.name, program.fd)
            with tracers.set_on(case.traced):
                seen = self._feed(case, program)
        after = maps.contents(program.maps)
        return replace(
            seen,
            maps=after,
            log=seen.log + program.statistics + maps.left_out(program.maps),
            leaks=leaks.after(self._mark),
            provenance=replace(seen.provenance, loader=program.loader),
        )

    def _beside(self, name: str) -> Program | Refusal:
        """Another program of the object of the case that is going on."""
        assert self._loaded is not None
        return self._loaded.program(name)

    def _feed(self, case: Case, program: Program) -> Observation:
        if HOOKS[case.hook].live:
            return self._feed_live(case, program)
        if case.hook == "load":
            return Observation(Verdict.RAN)
        if not testrun.runnable(program.type):
            return Observation(
                Verdict.UNSUPPORTED,
                message=f"the kernel has no BPF_PROG_TEST_RUN for program type {program.type}",
            )
        with tracing.attached(program):
            runs = [testrun.run(program, case.input) for _ in range(max(case.repeat, 1))]
        return Observation(
            Verdict.RAN,
            retvals=tuple(run.retval for run in runs),
            data_out=runs[-1].data_out if case.input.packet is not None else None,
            provenance=Provenance(attached_by="bpf(2)"),
        )

    def _feed_live(self, case: Case, program: Program) -> Observation:
        shots = self.hooks.run(case, program)
        attached_by = self.hooks.attached_by(case.hook)
        if self.hooks.has_second_way(case.hook) and case.hook not in self._cross_checked:
            self._cross_checked.add(case.hook)
            self._cross_check(case, program, shots)
            attached_by += ", and by bpftool with the same result"
        return Observation(
            Verdict.RAN,
            wire=tuple(shot.action.value for shot in shots),
            data_out=shots[-1].frame,
            provenance=Provenance(attached_by=attached_by),
        )

    def _cross_check(self, case: Case, program: Program, shots: "list[Shot]") -> None:
        """Once per object and XDP mode: the same frames with bpftool's attachment."""
        before = maps.contents(program.maps)
        for entry in program.maps:
            maps.reset(entry)
        again = self.hooks.cross_check(case, program)
        after = maps.contents(program.maps)
        if (again, after) != (shots, before):
            raise WorldError(
                f"{case.id}: {case.hook} attached by bpftool behaves differently",
                evidence=f"pyroute2: {shots} {before}\nbpftool: {again} {after}",
            )

    @property
    def hooks(self) -> "Hooks":
        """The live hooks, made on first use: pyroute2 takes its time to import.

        KernelError where the kernel has no wire for them, the same one every time.
        """
        if self._no_hooks is not None:
            raise self._no_hooks
        if self._hooks is None:
            from harness.target.agent.hooks import Hooks  # noqa: PLC0415

            before = leaks.census()
            try:
                self._hooks = Hooks()
            except syscall.KernelError as error:
                self._no_hooks = error
                raise
            ours = leaks.census()
            self._before = {k: self._before[k] | (ours[k] - before[k]) for k in ours}
        return self._hooks

    def _object(self, path: str, how: Loading, *, statistics: bool) -> Loaded:
        loaded = self._loaded
        wanted = (path, statistics, how.alone)
        same = loaded and (loaded.path, loaded.statistics, loaded.alone) == wanted
        if loaded is None or not same or loaded.spent:
            # what is good for one case only is loaded for that one
            along = () if same else how.along
            self.unload()
            self._loads += 1
            place = f"{self.directory}/{self._loads}"
            self._loaded = loaded = loading.load(
                path, place, statistics=statistics, alone=how.alone, along=along
            )
        return loaded

    def unload(self) -> None:
        """Take the loaded object out of the kernel."""
        if self._hooks is not None:
            self._hooks.detach()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
        self._cross_checked.clear()

    def finish(self) -> tuple[str, ...]:
        """Unload, and say what is left that was not there when the agent began."""
        self.unload()
        return leaks.beyond(self._before)

    def close(self) -> None:
        """Unload and give back everything else."""
        self.unload()
        if self._hooks is not None:
            self._hooks.close()
        self._stack.close()


def jit() -> str:
    """Value of net.core.bpf_jit_enable: "0" off, "1" on, "2" on and talkative; "" unknown."""
    try:
        return os.pread(_jit_switch(), 16, 0).decode().strip()
    except OSError:
        return ""


@functools.cache
def _jit_switch() -> int:
    # stays open: opening it anew takes a guest longer than running a program
    return os.open("/proc/sys/net/core/bpf_jit_enable", os.O_RDONLY | os.O_CLOEXEC)


def _refused(refusal: Refusal) -> Observation:
    return Observation(
        Verdict.REJECTED,
        message=refusal.message,
        errno=refusal.errno,
        log=verifierlog.shortened(refusal.log),
        provenance=Provenance(loader=refusal.loader),
    )


def _lock() -> int:
    """One agent at a time: two would see each other's programs as leaks."""
    Path(RUN).mkdir(mode=0o700, exist_ok=True)
    fd = os.open(f"{RUN}/agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                raise WorldError(
                    "another bpfthrow agent runs on this machine",
                    fix="end the other run, or use another machine",
                ) from None
            time.sleep(0.1)
        else:
            return fd


def _pin_directory() -> str:
    if not os.path.ismount(BPFFS):
        raise WorldError(
            f"bpffs is not mounted on {BPFFS}", fix=f"mount -t bpf bpf {BPFFS} on the machine"
        )
    directory = f"{BPFFS}/bpfthrow"
    _forget(directory)  # a killed agent's
    Path(directory).mkdir(mode=0o700)
    return directory


def _forget(directory: str) -> None:
    if Path(directory).is_dir():
        loading.remove_tree(directory)
