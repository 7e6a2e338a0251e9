# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where the stepper stops: breakpoints at functions, C lines and instructions; watched values.

Owns how they are written and when they are hit.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.bpf.link import Program
from harness.sim.trace import value

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """Hit at one of these instructions of any program that has them."""

    text: str
    hit: Callable[[Program, int], bool]


@dataclass(slots=True)
class Watch:
    """A value that is compared before each instruction."""

    name: str
    read: Callable[["Machine", list[Any]], int | None]
    last: int | None

    def show(self) -> str:
        """The value in words."""
        return value(self.last)

    def changed(self, machine: "Machine", registers: list[Any]) -> str:
        """What changed, or ""."""
        now = self.read(machine, registers)
        if now == self.last:
            return ""
        before, self.last = self.last, now
        return f"watch {self.name}: {value(before)} -> {value(now)}"


def parse_break(text: str, program: Program, pc: int) -> Breakpoint | str:
    """FUNCTION, LINE (of the file of instruction `pc`), FILE:LINE or *PC; else what is wrong."""
    if text.startswith("*"):
        return _at_pc(text[1:].strip(), program)
    if any(f.name == text for f in program.functions):
        return Breakpoint(
            f"function {text}",
            lambda p, at: any(f.name == text and f.start == at for f in p.functions),
        )
    found = re.fullmatch(r"(?:(.+):)?(\d{1,9})", text)
    if found is None:
        names = [f.name for f in program.functions]
        more = ", ..." if len(names) > _MOST_NAMES else ""
        return f"no function {text!r}; there are {', '.join(names[:_MOST_NAMES])}{more}"
    line = program.line_at(pc)
    file = found[1] or (line.file if line else "")
    return _at_line(file.rpartition("/")[2], int(found[2]), program)


def _at_pc(text: str, program: Program) -> Breakpoint | str:
    if not text.isdecimal() or len(text) > 9 or int(text) >= len(program.insns):
        return f"no instruction {text!r}; {program.name} has 0 to {len(program.insns) - 1}"
    pc = int(text)
    return Breakpoint(
        f"instruction {pc} of {program.name}", lambda p, at: at == pc and p.name == program.name
    )


def _at_line(file: str, number: int, program: Program) -> Breakpoint | str:
    known = {line.number for line in program.lines.values() if line.file.rpartition("/")[2] == file}
    if number not in known:
        near = sorted(known, key=lambda n: abs(n - number))[:3]
        hint = f"; near it: {', '.join(map(str, sorted(near)))}" if near else ""
        return f"no code at {file or '?'}:{number} in {program.name}{hint}"

    def hit(running: Program, at: int) -> bool:
        line = running.lines.get(at)
        return line is not None and line.number == number and line.file.rpartition("/")[2] == file

    return Breakpoint(f"line {file}:{number}", hit)


def parse_watch(text: str, machine: "Machine", registers: list[Any]) -> Watch | str:
    """A global variable or a register (of whatever frame runs); else what is wrong."""
    if re.fullmatch(r"[rR](\d|10)", text):
        number = int(text[1:])
        return Watch(text, lambda _machine, regs: regs[number], registers[number])
    for section in machine.obj.sections:
        for variable in section.variables:
            if variable.name == text and variable.size_bytes <= 8:
                end = variable.offset + variable.size_bytes
                read = _reader(section.name, variable.offset, end)
                return Watch(text, read, read(machine, registers))
    names = [v.name for s in machine.obj.sections for v in s.variables if v.size_bytes <= 8]
    return f"no variable {text!r} of up to 8 bytes; there are {', '.join(names) or 'none'}"


def _reader(section: str, start: int, end: int) -> Callable[["Machine", list[Any]], int]:
    def read(machine: "Machine", _registers: list[Any]) -> int:
        return int.from_bytes(machine.sections[section].data[start:end], "little")

    return read
