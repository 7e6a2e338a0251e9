# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Engines: what executes the instructions of a linked program for a machine.

Owns what an engine is. The machine makes the frame, its stack and the registers, and calls
`Code.run`; the engine executes from the function's first instruction until its exit. Calls of
subprograms may go back through `machine.call`, or stay inside the engine where the machine says
that nothing else watches (`machine.direct`). All engines agree on result, remaining budget,
memory, maps, and on the kind and the words of a fault; harness.sim.engines.reference is the
semantics that the others are held against.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from harness.bpf.link import LinkedFunction, Program
    from harness.sim.machine import Machine

# R0 to R10; an int of 64 bits, or None while nothing was put in it
Registers = list[Any]
# what an instruction that ends no block does to the registers
Step = Callable[[Registers], None]


class Code(Protocol):
    """One linked program, made ready by one engine for one machine."""

    @property
    def engine(self) -> str:
        """Name of the engine, for provenance."""
        ...

    @property
    def compile_s(self) -> float:
        """Seconds spent on making it."""
        ...

    def run(self, function: "LinkedFunction", registers: Registers) -> int | None:
        """Execute `function` until it exits: R0, None when nothing was put there.

        `registers` has R1 to R5 as the caller left them and R10 just above the frame's stack; the
        engine may change the list. Raises Fault and Unsupported (with the place in the message,
        see Machine.locate), Throw, TailCall. `machine.budget` is true whenever something outside
        the engine runs, and afterwards: a block is charged when it is entered.
        """
        ...


class Engine(Protocol):
    """Makes Code. A module of this package has it as `prepare`."""

    def __call__(self, machine: "Machine", program: "Program") -> Code:
        """Make `program` ready. Raises Declined where this engine cannot, Fault for bad code."""
        ...


class Declined(Exception):  # noqa: N818  # an answer, not an error
    """An engine does not do this program; the message says why."""
