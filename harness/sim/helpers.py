# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers that programs call by number: the table of all that are modelled, and how to call one.

The helpers are in harness.sim.helper, by theme. A number that is not in the table is unsupported,
by its name, when it is reached.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.bpf.helper_names import name_of
from harness.sim.alu import M64, signed
from harness.sim.helper import (
    Table,
    checksums,
    dynptrs,
    elements,
    flow,
    identity,
    reading,
    redirects,
    rings,
    room,
    skb,
    storages,
    strings,
    tracing,
    xdp,
)
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import value

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_THEMES = (
    elements, flow, identity, reading, strings, rings, dynptrs, skb, room, checksums, xdp,
    redirects, storages, tracing,
)  # fmt: skip
HELPERS: Table = {number: row for theme in _THEMES for number, row in sorted(theme.HELPERS.items())}
# takes what is in the registers behind its arguments too
_VARIADIC = 6


def arguments(number: int) -> int:
    """How many registers a call looks at, from R1 on."""
    if number == _VARIADIC:
        return 5
    return HELPERS[number][1] if number in HELPERS else 0


def bind(machine: "Machine", number: int) -> Callable[[list[Any]], int | None]:
    """Make a call of helper `number` that checks and passes its arguments.

    The call takes the registers from R1 on and gives R0, unsigned; None where it is void.
    """
    if number not in HELPERS:
        return _unknown(number)
    name, count, function, _ = HELPERS[number]
    trace, variadic = machine.trace, number == _VARIADIC

    def call(args: list[Any]) -> int | None:
        given = args[:count]
        if None in given:
            raise Fault(f"{name}: R{given.index(None) + 1} is not initialised")
        result = function(machine, *(args if variadic else given))
        if trace.on and not variadic:
            _say(machine, name, given, result)
        return None if result is None else result & M64

    return call


def _unknown(number: int) -> Callable[[list[Any]], int | None]:
    name = name_of(number)

    def unknown(_args: list[Any]) -> int | None:
        raise Unsupported(f"helper {name} (number {number})" if name else f"helper {number}")

    return unknown


def _say(machine: "Machine", name: str, given: list[int], result: int | None) -> None:
    if result is None:
        outcome = ": no target, the program goes on" if name == "bpf_tail_call" else ""
    else:
        outcome = f" = {machine.trace.show(result) if result > 0 else value(signed(result))}"
    machine.trace.call(name, given, result, outcome)
