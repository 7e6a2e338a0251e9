# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a program meets where the kernel lacks something: poisoned instructions, kernel variables.

libbpf turns an instruction that it cannot relocate into a call of a helper that no kernel has, so
that it only matters where it is reached (harness.bpf.corepatch, harness.bpf.resolve).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.sim.signals import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.bpf.btf import Btf
    from harness.sim.machine import Machine
    from harness.sim.memory import Region

# helper numbers that libbpf makes up: a CO-RE relocation, a map, a kernel function
_CORE = 195896080
_MADE_UP = range(2001000000, 2003000000)
_MAX_VARIABLE_BYTES = 1 << 16


def is_poison(number: int) -> bool:
    """Whether libbpf puts this helper number where it cannot relocate an instruction."""
    return number == _CORE or number in _MADE_UP


def bind(machine: Machine, number: int) -> Callable[[list[int | None]], int | None]:
    """An implementation that faults: a verifier refuses the program, "invalid func unknown"."""

    def call(_registers: list[int | None]) -> int | None:
        program = machine.frames[-1].program
        why = program.poisoned.get(machine.pc, "libbpf could not relocate the instruction")
        raise Fault(f"invalid func unknown#{number}: {why}")

    return call


def variable(machine: Machine, name: str, types: Btf, btf_id: int) -> Region:
    """A variable of the kernel: there, but what is in it is not known."""
    size = min(types.size_of(types.type(btf_id).type_id), _MAX_VARIABLE_BYTES)
    made = machine.memory.unwritten(f"kernel variable {name}", size)
    made.writable = False
    return made
