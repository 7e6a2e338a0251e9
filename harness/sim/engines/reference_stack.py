# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loads and stores of the reference interpreter at R10 plus a constant: most of what programs do.

Owns the short way to aligned slots of the frame's own stack. Whatever is not there, and every word
about what is wrong, is harness.sim.memory's.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.bpf.isa import Insn
from harness.sim.alu import M64
from harness.sim.engines import Registers
from harness.sim.memory import NOWHERE, STACK_BYTES, WRITTEN

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_FRAME = 10


def slot(register: int, off: int, size: int) -> int | None:
    """Number of the aligned slot of `size` bytes at register + off; None: it is no such slot."""
    offset = STACK_BYTES + off
    inside = register == _FRAME and 0 <= offset <= STACK_BYTES - size
    return offset // size if inside and not offset % size and sys.byteorder == "little" else None


def load(machine: "Machine", insn: Insn, index: int) -> Callable[[Registers], None]:
    """Closure of a load (mode mem) from slot `index`."""
    d, s, off, size = insn.dst, insn.src, insn.off, insn.size_bytes
    slow, regions, written = machine.memory.loader(size), machine.memory.regions, WRITTEN[size]
    region, cells, marks = NOWHERE, memoryview(b""), memoryview(b"")

    def step(regs: Registers) -> None:
        nonlocal region, cells, marks
        if region.top == regs[s] and marks[index] == written:
            regs[d] = cells[index]
        else:
            address = (regs[s] + off) & M64
            found = regions.get(address >> 32, NOWHERE)
            if found.cells:
                region, cells, marks = found, found.cells[size], found.marks[size]
            regs[d] = slow(address)

    return step


def store(machine: "Machine", insn: Insn, index: int) -> Callable[[Registers], None]:
    """Closure of a store of a register (mode mem) to slot `index`."""
    d, s, off, size = insn.dst, insn.src, insn.off, insn.size_bytes
    slow, regions, written = machine.memory.storer(size), machine.memory.regions, WRITTEN[size]
    mask = (1 << size * 8) - 1
    region, cells, marks = NOWHERE, memoryview(b""), memoryview(b"")

    def step(regs: Registers) -> None:
        nonlocal region, cells, marks
        if region.top == regs[d]:
            cells[index] = regs[s] & mask
            marks[index] = written
        else:
            address = (regs[d] + off) & M64
            found = regions.get(address >> 32, NOWHERE)
            if found.cells:
                region, cells, marks = found, found.cells[size], found.marks[size]
            slow(address, regs[s] & M64)

    return step
