# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which engine runs: the one that is named, or for packets of a capture the fastest that can.

Owns this choice alone. A capture is much work, so that compiling always pays; a named engine that
declines is the user's to hear of.
"""

from collections.abc import Callable

from harness.errors import UsageError
from harness.model import Case
from harness.sim.batch import Runner
from harness.sim.engines import Declined, Engine, reference, source
from harness.sim.machine import Machine
from harness.sim.replay import PacketRunner

ENGINES = ("auto", "reference", "source", "native")


def engine(name: str) -> Engine | None:
    """The engine for one run, None for the reference or "auto": one run is little work."""
    if name == "source":
        return source.prepare
    if name == "native":
        from harness.sim.engines import native  # noqa: PLC0415  # as below

        return native.prepare
    return None


def choose(machine: Machine, case: Case, wanted: str) -> Runner:
    """A runner for packets of `case`, compiled. Raises UsageError where a named engine declines.

    Fault and ObjectError as linking and compiling raise them.
    """
    if wanted != "auto":
        try:
            return _MAKERS[wanted](machine, case)
        except Declined as reason:
            raise declined(wanted, case, reason) from reason
    for name in ("native", "source"):
        try:
            return _MAKERS[name](machine, case)
        except Declined:
            machine.shared = None
    return _reference(machine, case)


def declined(wanted: str, case: Case, reason: Declined) -> UsageError:
    """What a user hears whose engine does not do it."""
    return UsageError(
        f"engine {wanted} does not run {case.program}: {reason}",
        fix="--engine auto takes one that does",
    )


def _reference(machine: Machine, case: Case) -> Runner:
    machine.engine = reference.prepare
    return PacketRunner(machine, case, "reference")


def _source(machine: Machine, case: Case) -> Runner:
    machine.engine = source.prepare
    source.prepare(machine, machine.program(case.program))
    return PacketRunner(machine, case, "source")


def _native(machine: Machine, case: Case) -> Runner:
    # llvmlite takes a while to load, and need not be there
    from harness.sim.engines import native, native_batch  # noqa: PLC0415

    machine.engine = native.prepare
    code = machine.code(machine.program(case.program))
    assert isinstance(code, native.NativeCode)  # of this engine
    return native_batch.NativeRunner(machine, case, code)


_MAKERS: dict[str, Callable[[Machine, Case], Runner]] = {
    "reference": _reference,
    "source": _source,
    "native": _native,
}
