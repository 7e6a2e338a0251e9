# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Raw instructions on the simulator's own machine, for the engines that ask more of one.

harness.conformance.machine is enough for the reference interpreter and starts faster; a test holds
that both give the same.
"""

import struct
from collections.abc import Callable
from typing import cast

from harness.bpf import elf
from harness.bpf.btf import parse
from harness.bpf.btfext import Ext
from harness.bpf.program import Program, Ref
from harness.conformance.machine import (
    Prepare,
    Result,
    Watch,
    absent,
    absent_function,
    program_of,
    refused,
    suite_helper,
)
from harness.errors import ObjectError
from harness.sim import machine, semantics
from harness.sim.engines import Engine, Registers
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import Trace

_BTF_MAGIC, _HEADER_BYTES = 0xEB9F, 24
_NO_TYPES = struct.pack("<HBBIIIII", _BTF_MAGIC, 1, 0, _HEADER_BYTES, 0, 0, 0, 1) + b"\0"


class _Machine(machine.Machine):
    """With the suite's helper in place of a kernel's, and nothing that could be referred to."""

    def helper(self, number: int) -> Callable[[Registers], int | None]:
        return suite_helper(number)

    def kfunc(self, ref: Ref) -> Callable[[Registers], int | None]:
        return absent_function(ref)

    def address_of(self, _program: Program, ref: Ref) -> int:
        raise absent(ref)


def run(
    code: bytes, memory: bytes, engine: str, prepare: Prepare, budget: int, watch: Watch | None
) -> Result:
    """As harness.conformance.machine.run. Raises Declined where the engine does not do it."""
    found = _Machine(_nothing(), semantics.profile(semantics.DEFAULT_PROFILE), Trace(), budget)
    found.engine, found.calls_by_register = cast("Engine", prepare), True
    found.trace.watcher = watch
    region = found.memory.region("memory", bytearray(memory))
    address = region.address if memory else 0
    try:
        program = program_of(code)
        arguments: Registers = [address, len(memory), None, None, None]
        r0 = found.call(program, program.functions[0], arguments, 0)
    except (Fault, Unsupported, ObjectError) as error:
        return refused(error, found.budget, engine)
    return Result(r0, "", found.budget, bytes(region.data), engine)


def _nothing() -> elf.Object:
    """An object that holds nothing; the program is given apart from it."""
    return elf.Object(
        path="raw instructions",
        programs=(),
        functions=(),
        maps=(),
        sections=(),
        externs=(),
        license="GPL",
        btf=parse(_NO_TYPES),
        ext=Ext(),
    )
