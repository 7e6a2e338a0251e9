# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How a simulated instruction leaves the ordinary flow: fault, unsupported, throw, tail call.

Python exceptions of the machine, never seen outside harness.sim.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.bpf.link import Program


class Fault(Exception):  # noqa: N818  # the words of the machine, not Python errors
    """The program did what no verifier accepts: out of bounds, uninitialised."""

    # whether the place is in the message
    located = False


class Unsupported(Exception):  # noqa: N818
    """The program needs something that is not modelled, or more than the simulator gives."""

    located = False


class EndFunction(Exception):  # noqa: N818
    """The running function ends at once with R0 = 0: LD_ABS beyond the packet."""


class Throw(Exception):  # noqa: N818
    """bpf_throw(cookie): unwinds to the nearest program."""

    def __init__(self, cookie: int) -> None:
        super().__init__(cookie)
        self.cookie = cookie


class TailCall(Exception):  # noqa: N818
    """bpf_tail_call() that found its target: the running function is replaced."""

    def __init__(self, program: "Program", context: int) -> None:
        super().__init__(program.name)
        self.program = program
        self.context = context
