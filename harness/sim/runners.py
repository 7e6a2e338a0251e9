# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which engine runs the packets of a capture: the one that is named, or the fastest for them.

Owns this choice alone; harness.sim.engines.choice makes it for single runs. A big capture is worth
a compilation of its loop over packets; a small one runs on what changes its engine by itself.
"""

from collections.abc import Callable

from harness.errors import UsageError
from harness.model import Case
from harness.sim.batch import Runner
from harness.sim.engines import Declined, choice, reference, source
from harness.sim.machine import Machine
from harness.sim.replay import PacketRunner

# of a capture: below, generated Python is done before native code would be ready
_SMALL_BYTES = 400_000


def choose(machine: Machine, case: Case, wanted: str, size_bytes: int | None = None) -> Runner:
    """A runner for packets of `case`, ready. `size_bytes`: of the capture, None: not known.

    Raises UsageError where a named engine declines; Fault and ObjectError as linking and compiling
    raise them.
    """
    if wanted != choice.AUTO:
        try:
            return _MAKERS[wanted](machine, case)
        except Declined as reason:
            raise UsageError(
                f"engine {wanted} does not run {case.program}: {reason}",
                fix="--engine auto takes one that does",
            ) from reason
    if size_bytes is None or size_bytes >= _SMALL_BYTES:
        try:
            return _native(machine, case)
        except Declined:
            machine.shared = None
    machine.engine = choice.named(choice.AUTO, None)
    return PacketRunner(machine, case)


def _reference(machine: Machine, case: Case) -> Runner:
    machine.engine = reference.prepare
    return PacketRunner(machine, case)


def _source(machine: Machine, case: Case) -> Runner:
    machine.engine = source.prepare
    return PacketRunner(machine, case)


def _native(machine: Machine, case: Case) -> Runner:
    # llvmlite takes a while to load, and need not be there
    from harness.sim.engines import native, native_batch  # noqa: PLC0415

    code = native.prepare(machine, machine.program(case.program), later=True)
    machine.engine = native.prepare
    return native_batch.NativeRunner(machine, case, code)


_MAKERS: dict[str, Callable[[Machine, Case], Runner]] = {
    "reference": _reference,
    "source": _source,
    "native": _native,
}
