# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A target without a machine: answers from a table, and can be lost on cue."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.errors import MachineLostError
from harness.model import Case, Observation, Provenance, Verdict
from harness.target.base import Facts

RELEASE = "6.12.107+deb13-amd64"
# what a kernel says when it dies, and what is observed then
OOPS = """\
[    9.0] BUG: kernel NULL pointer dereference, address: 0000000000000030
[    9.1] RIP: 0010:jit_subprogs+0x894/0xaa0
[    9.2] Call Trace:
[    9.3]  <TASK>
[    9.4]  bpf_check+0x2a35/0x2e10
[    9.5]  bpf_prog_load+0x7e1/0xc90
[    9.6]  </TASK>
[    9.7] Kernel panic - not syncing: Fatal exception
"""
CRASHED = Observation(Verdict.CRASHED, message="BUG: kernel NULL pointer", kernel_log=OOPS)


def ran(retval, **fields):
    """An observation of a case that ran and returned `retval`."""
    return Observation(Verdict.RAN, retvals=(retval,), duration_s=0.01, **fields)


def case(name, **fields):
    """A case whose object nobody opens."""
    values = {"section": "tc", "hook": "test_run"} | fields
    return Case(id=name, object=f"build/{name}.bpf.o", program=name.rsplit("/", 1)[-1], **values)


@dataclass
class FakeTarget:
    """Answers `answers[case id]`; a function there is called, to raise or to count."""

    name: str
    answers: dict[str, Observation | Callable[[Case], Observation]]
    release: str = RELEASE
    left_behind: tuple[str, ...] = ()
    expects_throw: bool = True
    renewable: bool = True
    # what happened, in order: "open", "run ID", "finish", "close"
    log: list[str] = field(default_factory=list)

    @property
    def facts(self):
        return Facts(self.release, "tcg", "1", "bpftool v7.5.0", expects_throw=self.expects_throw)

    def run(self, wanted):
        self.log.append(f"run {wanted.id}")
        answer = self.answers[wanted.id]
        seen = answer(wanted) if callable(answer) else answer
        provenance = Provenance(self.name, self.release, "tcg", "1", "bpftool v7.5.0")
        return Observation(
            **{name: getattr(seen, name) for name in Observation.__dataclass_fields__}
            | {"provenance": provenance}
        )

    def renew(self):
        self.log.append("renew")
        return self.renewable

    def finish(self):
        self.log.append("finish")
        return self.left_behind

    def abort(self):
        self.log.append("abort")

    def close(self):
        self.log.append("close")


def opener(targets):
    """An open_target() that knows `targets`, spec -> FakeTarget or an error to raise."""

    @contextmanager
    def open_target(spec, settings):
        target = targets[spec]
        if isinstance(target, Exception):
            raise target
        target.log.append("open")
        try:
            yield target
        finally:
            target.close()

    return open_target


def lose(message="console closed"):
    """An answer: the machine goes away."""

    def answer(_):
        raise MachineLostError(message, evidence="last words")

    return answer
