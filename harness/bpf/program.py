# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A linked program as a value: instructions, functions, and what stays a name.

Made by harness.bpf.link, executed by harness.sim. Data only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.bpf.btfext import Line
    from harness.bpf.isa import Insn


class RefKind(StrEnum):
    """What a relocated instruction refers to."""

    MAP = "map"  # address of a map
    GLOBAL = "global"  # section of globals, plus offset
    FUNCTION = "function"  # address of a subprogram, for a callback
    KFUNC = "kfunc"  # call of a kernel function
    EXTERN = "extern"  # address or value of an undefined symbol
    TYPE = "type"  # number of a type of the object; in assembler text only, linking makes a number


@dataclass(frozen=True, slots=True)
class Ref:
    """The target of one instruction."""

    kind: RefKind
    # map, section, function or symbol; of a kernel function without its flavour (NAME___flavour)
    name: str
    # byte offset into a section of globals; first instruction of a function
    offset: int = 0
    # of an extern: a weak one may be absent
    weak: bool = False
    # of an extern: BTF id in the kernel's types; None: they were not given, or have no such name
    btf_id: int | None = None


@dataclass(frozen=True, slots=True)
class LinkedFunction:
    """One function of a linked program; its instructions are [start, end)."""

    name: str
    start: int
    end: int
    linkage: str


@dataclass(frozen=True)
class Program:
    """One program with everything it calls; calls between functions are resolved."""

    name: str
    # section, "?" included
    section: str
    insns: tuple[Insn, ...] = field(repr=False)
    # functions[0] is the program itself
    functions: tuple[LinkedFunction, ...]
    # instruction index -> what it refers to
    refs: dict[int, Ref] = field(repr=False)
    # instruction index -> source line that starts there
    lines: dict[int, Line] = field(repr=False)
    # index in `functions`, or None for the default callback
    exception_callback: int | None = None
    # instruction index -> why it is an invalid call now: what the kernel lacks
    poisoned: dict[int, str] = field(repr=False, default_factory=dict)
    # instruction index -> what has to be known to relocate it, and is not
    unknown: dict[int, str] = field(repr=False, default_factory=dict)
    # content of the map .kconfig, which the program may refer to as a section of globals
    kconfig: bytes = field(repr=False, default=b"")

    @cached_property
    def _owners(self) -> list[LinkedFunction]:
        return [f for f in self.functions for _ in range(f.start, f.end)]

    def function_at(self, pc: int) -> LinkedFunction:
        """Function that holds instruction `pc`."""
        return self._owners[pc]

    def line_at(self, pc: int) -> Line | None:
        """Source line of instruction `pc`: the nearest one at or before it in its function."""
        start = self.function_at(pc).start
        return next((self.lines[i] for i in range(pc, start - 1, -1) if i in self.lines), None)
