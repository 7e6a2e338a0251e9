# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One run on every engine: they must agree on everything that somebody could see.

`agree(make, run)` is for tests and for whoever fuzzes: `make()` gives a new machine, `run(machine)`
runs it and returns its values. Compared: values or the kind and words of what ended the run, what
is left of the budget, every live region (address, name, bounds, bytes), maps, time, randomness,
cookies, what was leaked.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import ObjectError
from harness.sim.engines import Declined, choice
from harness.sim.machine import Machine
from harness.sim.run import map_content
from harness.sim.signals import Fault, Unsupported


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    # "ran", "Fault", "Unsupported", "ObjectError"
    kind: str
    # message, or the values
    result: str
    budget: int
    # address -> name, bounds and bytes
    regions: dict[int, tuple[str, int, int, str]]
    maps: dict[str, dict[str, str]]
    others: tuple[Any, ...]


def engines() -> list[str]:
    """Names of the engines that can be used here, the reference first."""
    return [
        n for n in ("reference", "source", "auto", "native") if n != "native" or choice.has_native()
    ]


def outcome(machine: Machine, run: Callable[[Machine], Any]) -> Outcome:
    """Run it, and look at the machine afterwards."""
    try:
        kind, result = "ran", str(run(machine))
    except (Fault, Unsupported, ObjectError) as error:
        kind, result = type(error).__name__, str(error.args[0])
    regions = {
        r.address: (r.name, r.low, r.high, _bytes(bytes(r.data[r.low : r.high])))
        for r in machine.memory.regions.values()
    }
    others = (
        machine.world.clock_ns if hasattr(machine.world, "clock_ns") else None,
        machine.tail_calls,
        tuple(machine.cookies),
        tuple(machine.resources.leaked),
        len(machine.frames),
    )
    return Outcome(kind, result, machine.budget, regions, map_content(machine), others)


def _bytes(data: bytes) -> str:
    return data.hex() if len(data) <= 64 else hashlib.sha256(data).hexdigest()


def agree(
    make: Callable[[], Machine], run: Callable[[Machine], Any], names: list[str] | None = None
) -> tuple[Outcome, dict[str, str]]:
    """Run on every engine and compare with the reference.

    The reference's outcome, and which engine executed programs in the end, by asked name. Raises
    AssertionError that says what differs.
    """
    wanted: Outcome | None = None
    ran = {}
    for name in names or engines():
        machine = make()
        try:
            machine.engine = choice.named(name, runs=None)
            seen = outcome(machine, run)
        except Declined as reason:
            ran[name] = f"declined: {reason}"
            continue
        ran[name] = machine.engines()
        if wanted is None:
            wanted = seen
            continue
        for part in fields(Outcome):
            left, right = getattr(wanted, part.name), getattr(seen, part.name)
            assert left == right, f"{part.name} differs on {name}: {_first(left, right)}"
    assert wanted is not None
    return wanted, ran


def _first(left: object, right: object) -> str:
    """The first difference of two values, the reference's on the left."""
    if isinstance(left, dict) and isinstance(right, dict):
        key = next(k for k in (*left, *right) if left.get(k) != right.get(k))
        return f"{key:#x}: " * isinstance(key, int) + f"{left.get(key)} != {right.get(key)}"
    return f"{left} != {right}"
