# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Slots of prog arrays that hold programs of the same object while a case runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from harness.errors import UsageError
from harness.model import TailCall
from harness.target.agent import syscall
from harness.target.agent.libbpf import pin_name
from harness.target.agent.loading import Program
from harness.target.agent.verifierlog import Refusal


@contextmanager
def filled(
    main: Program, wanted: tuple[TailCall, ...], load: Callable[[str], Program | Refusal]
) -> Iterator[Refusal | None]:
    """Fill the slots, and empty them at the end; yields why the first refused one was refused."""
    with ExitStack() as stack:
        for slot in wanted:
            fd = main.map_fds.get(pin_name(slot.map))
            if fd is None:
                raise UsageError(f"program {main.name!r} was loaded without a map {slot.map!r}")
            program = load(slot.program)
            if isinstance(program, Refusal):
                yield program
                return
            key = slot.index.to_bytes(4, "little")
            syscall.map_update(fd, key, program.fd.to_bytes(4, "little"))
            stack.callback(syscall.map_delete, fd, key)
        yield None
