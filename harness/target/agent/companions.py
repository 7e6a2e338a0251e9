# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""freplace, fentry and fexit programs that are attached while a case runs.

Those of the same object share the maps of the main program's load, so that a case sees one set of
globals. Those of another object have maps of their own, which nobody reads.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness.errors import UsageError
from harness.model import Companion
from harness.target.agent import libbpf
from harness.target.agent.loading import Program
from harness.target.agent.verifierlog import Refusal


@contextmanager
def attached(path: str, main: Program, wanted: tuple[Companion, ...]) -> Iterator[Refusal | None]:
    """Load and attach `wanted` in order; yields why the first refused one was refused."""
    with ExitStack() as stack:
        targets = [main.fd]
        for companion in wanted:
            refusal = _attach(stack, path, main, companion, targets)
            if refusal is not None:
                yield refusal
                return
        yield None


def _attach(
    stack: ExitStack, path: str, main: Program, companion: Companion, targets: list[int]
) -> Refusal | None:
    """Try the main program first, then the companions before this one, as target."""
    refusal: Refusal | None = None
    for fd in tuple(targets):
        with ExitStack() as trial:
            handle = trial.enter_context(libbpf.opened(companion.object or path))
            member = _member(handle, companion)
            if not companion.object:
                libbpf.reuse_maps(handle, main.map_fds)
            again = _load(handle, member, main, companion, fd)
            if again is None:
                trial.callback(libbpf.detach, libbpf.attach(member, companion.kind))
                targets.append(libbpf.raw_fd(member))
                stack.push(trial.pop_all())
                return None
        # the main program's words count, unless the function is not in it at all
        if refusal is None or "doesn't exist" in refusal.message:
            refusal = again
    return refusal


def _load(
    handle: libbpf.Handle, member: libbpf.Member, main: Program, companion: Companion, fd: int
) -> Refusal | None:
    libbpf.select(handle, {companion.program})
    code = libbpf.set_target(member, fd, companion.target)
    if code:
        raise UsageError(
            f"companion {companion.program!r}: no function {companion.target!r} "
            f"in program {main.name!r} (libbpf says {code})"
        )
    return libbpf.load(handle, companion.program)


def _member(handle: libbpf.Handle, companion: Companion) -> libbpf.Member:
    for member in libbpf.members(handle):
        if member.name == companion.program:
            return member
    raise UsageError(f"the object has no companion program {companion.program!r}")
