# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The trace: what happened in a run, as text of at most 100 columns that fits into a mail.

Owns the wording and the indentation (two blanks for each live frame). Events are calls, returns,
helpers, throws, vanishing frames, callbacks and results; every instruction only on request.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.bpf import disasm
from harness.bpf.isa import registers_read

if TYPE_CHECKING:
    from harness.bpf.link import Program
    from harness.sim.machine import Frame
    from harness.sim.memory import Memory

WIDTH = 100
MAX_LINES = 20_000
_LINE_COLUMN = 64
_STACK = "stack of "


def value(number: int | None) -> str:
    """A register's value: small numbers as such, others with their hexadecimal form."""
    if number is None:
        return "?"
    if number < 10:
        return str(number)
    if number >> 63:
        negative = number - (1 << 64)
        return f"{negative} (0x{number:x})" if negative > -(1 << 32) else f"0x{number:x}"
    return f"{number} (0x{number:x})"


@dataclass(slots=True)
class Trace:
    """Collects lines; does nothing while it is off."""

    on: bool = False
    # every instruction too
    instructions: bool = False
    depth: int = 0
    lines: list[str] = field(default_factory=list)
    memory: "Memory | None" = None

    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)

    def say(self, text: str, line: str = "", mark: str = "") -> None:
        """Add one event at the current depth; `line` is where it is in the source."""
        if not self.on or len(self.lines) > MAX_LINES:
            return
        if len(self.lines) == MAX_LINES:
            self.lines.append(f"... more than {MAX_LINES} lines: the rest is left out")
            return
        left = "  " * min(self.depth, 24) + (f"{mark} " if mark else "") + text
        room = WIDTH - len(line) - 2 if line else WIDTH
        if len(left) > room:
            left = left[: room - 3] + "..."
        self.lines.append(f"{left:<{min(_LINE_COLUMN, room)}}  {line}" if line else left)

    def show(self, number: int | None) -> str:
        """A value, or the name of what it points to."""
        if number is None or self.memory is None:
            return value(number)
        region = self.memory.regions.get(number >> 32)
        if region is None:
            return value(number)
        offset = number & 0xFFFF_FFFF
        if region.shadow is not None and region.name.startswith(_STACK):
            return f"{region.name.removeprefix(_STACK)}.fp{offset - region.high:+d}"
        return f"&{region.name}" + (f"+{offset}" if offset else "")

    def enter(self, frame: "Frame", args: list[Any], line: str) -> None:
        """A function starts; `line` is where its code begins."""
        shown = ", ".join(f"r{i}={self.show(arg)}" for i, arg in enumerate(args, 1))
        note = {
            "subprogram": "" if frame.function.linkage == "static" else "  [global]",
            "exception callback": f"  [exception callback of {frame.program.name}]",
        }.get(frame.kind, f"  [{frame.kind}]")
        self.say(f"{frame.function.name}({shown}){note}", line, mark=">")
        self.depth += 1

    def leave(self, result: int | None) -> None:
        """The function that started last returns."""
        self.depth = max(self.depth - 1, 0)
        if self.on and result is not None:
            self.say(f"= {self.show(result)}", mark="<")

    def vanish(self, frame: "Frame") -> None:
        """A throw leaves this frame."""
        self.depth = max(self.depth - 1, 0)
        boundary = ": the boundary, its callback takes over" if frame.kind == "program" else ""
        self.say(f"frame of {frame.function.name} vanishes{boundary}", mark="x")

    def instruction(self, program: "Program", pc: int, registers: list[Any]) -> None:
        """One instruction, with the values that it reads."""
        if not 0 <= pc < len(program.insns):
            return
        insn = program.insns[pc]
        known = " ".join(
            f"r{r}={self.show(registers[r])}" for r in dict.fromkeys(registers_read(insn))
        )
        text = f"{pc:4}: {disasm.instruction(program, pc)}"
        self.say(f"{text:<36}; {known}" if known else text)
