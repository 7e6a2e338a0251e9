# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the stepper shows of a machine that stands still: registers, frames, stacks, the packet,
maps, globals, C lines and instructions around. Text only; changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bpf import disasm, isa
from harness.bpf.elf import decode_globals
from harness.bpf.isa import registers_read
from harness.bpf.link import Program
from harness.sim.trace import Trace, place

if TYPE_CHECKING:
    from harness.bpf.btfext import Line
    from harness.sim.breakpoints import Breakpoint, Watch
    from harness.sim.machine import Machine

_AROUND_LINES = 5
_AROUND_INSNS = 6
_PACKET_BYTES = 256
_ENTRIES = 32
_SLOT = 8
_SOURCE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Position:
    """Where one live frame stands."""

    program: Program
    pc: int
    registers: list[Any]

    def line(self) -> tuple[str, int] | None:
        """File and number of its C line."""
        found = self.program.line_at(self.pc)
        return (found.file, found.number) if found else None


def instruction(trace: Trace, position: Position) -> str:
    """The instruction that comes next, with the values that it reads."""
    insn = position.program.insns[position.pc]
    known = " ".join(
        f"r{r}={trace.show(position.registers[r])}" for r in dict.fromkeys(registers_read(insn))
    )
    text = f"  {position.pc:4}: {disasm.instruction(position.program, position.pc)}"
    return f"{text:<44} ; {known}" if known else text


def _frame(positions: Sequence[Position], text: str) -> Position | str:
    """A frame by its number in `frames`, 0 or "" for the innermost."""
    if not text:
        return positions[-1]
    if not text.isdecimal() or len(text) > 9 or int(text) >= len(positions):
        return f"no frame {text!r}; there are 0 to {len(positions) - 1}"
    return positions[-1 - int(text)]


def registers(trace: Trace, positions: Sequence[Position], text: str) -> str:
    """R0 to R10 of a frame; `?` where nothing was put."""
    found = _frame(positions, text)
    if isinstance(found, str):
        return found
    return "\n".join(f"  r{n:<2} = {trace.show(v)}" for n, v in enumerate(found.registers))


def frames(machine: "Machine", positions: Sequence[Position]) -> str:
    """All live frames."""
    lines = []
    pairs = zip(reversed(machine.frames), reversed(positions), strict=False)
    for number, (frame, position) in enumerate(pairs):
        at = place(position.program, position.pc)
        source = f"{at.short}  {at.source}" if at is not None else ""
        kind = "" if frame.kind == "subprogram" else f" [{frame.kind}]"
        lines.append(f"  #{number} {frame.function.name}{kind} pc {position.pc}  {source}".rstrip())
    return "\n".join(lines)


def stack(trace: Trace, positions: Sequence[Position], text: str) -> str:
    """Written slots of a frame's stack, the top first; `..` is a byte that nobody wrote."""
    found = _frame(positions, text)
    if isinstance(found, str):
        return found
    memory, pointer = trace.memory, found.registers[10]
    region = memory.regions.get((pointer or 0) >> 32) if memory is not None else None
    if region is None or region.shadow is None:
        return "no stack"
    lines = []
    for start in range(region.high - _SLOT, region.low - 1, -_SLOT):
        written = region.shadow[start : start + _SLOT]
        if not any(written):
            continue
        data = region.data[start : start + _SLOT]
        parts = [f"{b:02x}" if w else ".." for b, w in zip(data, written, strict=True)]
        shown = f"  {trace.show(int.from_bytes(data, 'little'))}" if all(written) else ""
        lines.append(f"  fp{start - region.high:<5} {' '.join(parts)}{shown}")
    return "\n".join(lines) or "nothing was written to it"


def packet(machine: "Machine", text: str) -> str:
    """The frame from data_meta to data_end, offsets counted from data."""
    seen = machine.context.packet
    if seen is None:
        return "this program has no packet"
    meta = f", metadata from {seen.meta - seen.start}" if seen.meta != seen.start else ""
    lines = [f"{seen.end - seen.start} bytes{meta}; data is byte 0"]
    data = bytes(seen.region.data[seen.meta : seen.end])
    most = len(data) if text == "all" else _PACKET_BYTES
    for at in range(0, min(len(data), most), 16):
        part = data[at : at + 16]
        printable = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        offset = at + seen.meta - seen.start
        lines.append(f"  {offset:5}: {part.hex(' '):<47}  {printable}")
    if len(data) > most:
        lines.append(f"  ... {len(data) - most} more; `packet all` shows them")
    return "\n".join(lines)


def maps(machine: "Machine", text: str) -> str:
    """All maps, or the entries of one."""
    if not text:
        lines = [
            f"  {d.name}: {d.type_name}, key {d.key_size}, value {d.value_size} bytes, "
            f"at most {d.max_entries} entries"
            for d in (used.place.definition for used in machine.maps.values())
        ]
        return "\n".join(lines) or "the object has no maps"
    used = machine.maps.get(text)
    if used is None:
        return f"no map {text!r}; there are {', '.join(machine.maps) or 'none'}"
    if not used.has_content:
        return f"{text} has no entries to show"
    entries = used.content()
    lines = [f"  [{key}] = {data}" for key, data in islice(entries.items(), _ENTRIES)]
    if len(entries) > _ENTRIES:
        lines.append(f"  ... {len(entries) - _ENTRIES} more")
    return "\n".join(lines) or "empty"


def global_variables(machine: "Machine") -> str:
    """Every global variable: its bytes, and up to eight of them as a number."""
    lines = []
    for name, region in machine.sections.items():
        for variable, data in decode_globals(machine.obj, name, bytes(region.data)).items():
            number = ""
            if 0 < len(data) <= 16:
                number = f" = {int.from_bytes(bytes.fromhex(data), 'little')}"
            lines.append(f"  {name} {variable}{number}  {data[:64]}{'...' * (len(data) > 64)}")
    return "\n".join(lines) or "the object has no globals"


def breakpoints(points: "Sequence[Breakpoint]", watches: "Sequence[Watch]") -> str:
    """What the program stops at."""
    lines = [f"  {number} {point.text}" for number, point in enumerate(points, 1)]
    lines += [f"  watch {watch.name}: {watch.show()}" for watch in watches]
    return "\n".join(lines) or "none"


def source(positions: Sequence[Position], text: str) -> str:
    """C lines around: of the file, where it is still the one that was compiled, else those that
    the object itself carries.
    """
    found = _frame(positions, text)
    if isinstance(found, str):
        return found
    line = found.program.line_at(found.pc)
    if line is None:
        return "the object does not say where this comes from (compile it with -g)"
    known = {k.number: k.text for k in found.program.lines.values() if k.file == line.file}
    known = _file_lines(line) or known
    near = sorted(known, key=lambda number: (abs(number - line.number), number))
    shown = sorted(number for number in near if abs(number - line.number) <= _AROUND_LINES)
    rows = [
        f"{'=>' if number == line.number else '  '} {number:5}  {known[number]}" for number in shown
    ]
    return "\n".join([line.file.rpartition("/")[2] + ":", *rows])


def _file_lines(line: "Line") -> dict[int, str]:
    path = Path(line.file)
    try:
        # an object may name any file
        if not path.is_file() or path.stat().st_size > _SOURCE_BYTES:
            return {}
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return {}
    same = 0 < line.number <= len(lines) and lines[line.number - 1].strip() == line.text.strip()
    return {n: text.expandtabs(4) for n, text in enumerate(lines, 1)} if same else {}


def code(positions: Sequence[Position], text: str) -> str:
    """Instructions around, of the same function."""
    found = _frame(positions, text)
    if isinstance(found, str):
        return found
    function = found.program.function_at(found.pc)
    starts, skip = [], False
    for pc in range(function.start, function.end):
        if not skip:
            starts.append(pc)
        skip = not skip and found.program.insns[pc].code == isa.LD_IMM64
    at = starts.index(found.pc) if found.pc in starts else 0
    shown = starts[max(at - _AROUND_INSNS, 0) : at + _AROUND_INSNS + 1]
    rows = [
        f"{'=>' if pc == found.pc else '  '} {pc:4}: {disasm.instruction(found.program, pc)}"
        for pc in shown
    ]
    return "\n".join([f"{function.name}:", *rows])
