# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Names for the kernel addresses in an oops: from a System.map, a vmlinux or a guest's kallsyms.

Kernels name most of a stack themselves; what they print as bare numbers (registers, stacks of
kernels without kallsyms) is named here, and with a vmlinux that has debug information all of it
gets its line. Where the symbols of a kernel come from is harness.target.symbols' business.
"""

import bisect
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.errors import UsageError

# the kernel's code at its random place: arch/x86/include/asm/page_64_types.h, pgtable_64_types.h
_TEXT = range(0xFFFFFFFF80000000, 0xFFFFFFFFC0000000)
# where modules and programs are (MODULES_VADDR with CONFIG_RANDOMIZE_BASE)
_JIT = range(0xFFFFFFFFC0000000, 0xFFFFFFFFFF000000)
_OFFSET = re.compile(r"Kernel Offset: (0x[0-9a-f]+) from (0x[0-9a-f]+)|Kernel Offset: disabled")
_LINK_BASE = 0xFFFFFFFF81000000
_ADDRESS = re.compile(r"(?<![0-9a-f])(?:0x)?(ffffffff[89a-f][0-9a-f]{7})(?![0-9a-f])")
_NAMED = re.compile(r"([A-Za-z_][\w.]*)\+(0x[0-9a-f]+)/0x[0-9a-f]+")
# what the agent says of a program before it may crash (harness/target/agent/jited.py)
_PROGRAM = re.compile(r"bpfthrow: program (\S+) at ([0-9a-f]{16}), (\d+) bytes")
# behind the last instruction: int3 up to the next program
_PADDING = 64
# a stub, as in distributions that keep theirs in a package of its own
_FEWEST = 1000
_CODE = "TtWw"
# the linker's marks around what is code; data lies between the two
_BOUNDS = (("_text", "_etext"), ("_sinittext", "_einittext"))
_ENDS = frozenset(end for _, end in _BOUNDS)
# what is put behind a line that was decoded, and tells that it was
MARK = "    <- "
# longest function: a number beyond is in no function at all
_LONGEST = 1 << 20
# address -> "file:line", for all at once
Lines = Callable[[list[int]], dict[int, str]]


@dataclass(frozen=True, slots=True)
class Symbols:
    """Functions of one kernel by address, at the place where the symbols were read."""

    # sorted
    addresses: tuple[int, ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    # address of _text
    base: int
    # what they were read from, for people
    origin: str = ""
    # None: no debug information
    lines: Lines | None = field(default=None, compare=False, repr=False)

    def name(self, address: int) -> str:
        """The function at `address`, as kernels write it: "f+0x10/0x80"; "" where there is none."""
        at = bisect.bisect_right(self.addresses, address) - 1
        if at < 0 or at + 1 >= len(self.addresses):
            return ""
        start, end = self.addresses[at], self.addresses[at + 1]
        if end - start > _LONGEST or self.names[at] in _ENDS:
            return ""
        return f"{self.names[at]}+{address - start:#x}/{end - start:#x}"

    def address(self, name: str) -> int | None:
        """Where a function begins; None where nobody or more than one has that name."""
        found = [a for a, other in zip(self.addresses, self.names, strict=True) if other == name]
        return found[0] if len(found) == 1 else None


def parse(text: str, origin: str = "") -> Symbols | None:
    """Symbols of a System.map or of kallsyms ("ADDRESS TYPE NAME" a line); None for a stub."""
    rows = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[1] not in _CODE:
            continue
        try:
            rows.append((int(words[0], 16), words[2]))
        except ValueError:
            return None
    return _sorted(rows, origin)


def read_vmlinux(path: Path, lines: Lines | None = None) -> Symbols | None:
    """Symbols of an ELF kernel; None where it has none. UsageError where it is none."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            table, texts = elf.get_section_by_name(".symtab"), elf.get_section_by_name(".strtab")
            if table is None or texts is None:
                return None
            data, names = table.data(), texts.data()
            has_lines = elf.get_section_by_name(".debug_line") is not None
    except (OSError, ELFError) as error:
        raise UsageError(f"{path}: no vmlinux: {error}") from error
    rows = []
    # Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size; low 4 bits: STT_FUNC is 2
    for name_at, info, _, section, value, _ in struct.iter_unpack("<IBBHQQ", data):
        if section == 0 or info & 15 not in (0, 2) or value not in _TEXT:
            continue
        rows.append((value, names[name_at : names.find(b"\0", name_at)].decode(errors="replace")))
    return _sorted(rows, str(path), lines if has_lines else None)


def _sorted(rows: list[tuple[int, str]], origin: str, lines: Lines | None = None) -> Symbols | None:
    marks = {name: address for address, name in rows}
    spans = [range(marks[a], marks[b] + 1) for a, b in _BOUNDS if a in marks and b in marks]
    kept = sorted(row for row in rows if any(row[0] in span for span in spans))
    if len(kept) < _FEWEST or "_text" not in marks:
        return None
    addresses, names = zip(*kept, strict=True)
    return Symbols(addresses, names, marks["_text"], origin, lines)


def decode(log: str, symbols: Symbols, base: int | None = None) -> str:
    """`log` with a name behind each bare address, and with lines where debug information is there.

    What is decoded already stays as it is.

    `base`: where _text was in the kernel that wrote the log; a panic's own words come first. Where
    neither is known, only what is named already gets its line.
    """
    slid = _slide(log, symbols, base)
    lines = log.splitlines()
    sources = _sources(lines, symbols)
    programs = [(m[1], int(m[2], 16), int(m[3])) for m in _PROGRAM.finditer(log)]

    def name(address: int) -> str:
        if address in _JIT:
            return _program(address, programs)
        return "" if slid is None else symbols.name(address - slid)

    return "\n".join(_decoded(line, name, sources) for line in lines)


def _program(address: int, programs: Iterable[tuple[str, int, int]]) -> str:
    for name, start, size in programs:
        at = address - start
        if 0 <= at < size + _PADDING:
            where = f"{name}+{at:#x}/{size:#x} (BPF)"
            return where if at < size else f"{where}, behind its end"
    return "a BPF program or module"


def _slide(log: str, symbols: Symbols, base: int | None) -> int | None:
    match = _OFFSET.search(log)
    if match:
        base = int(match[2], 16) + int(match[1], 16) if match[1] else _LINK_BASE
    return None if base is None else base - symbols.base


def _decoded(line: str, name: Callable[[int], str], sources: dict[str, str]) -> str:
    if MARK in line or "Kernel Offset:" in line or _PROGRAM.search(line):
        return line
    notes = [sources[match[0]] for match in _NAMED.finditer(line) if match[0] in sources]
    for match in _ADDRESS.finditer(line):
        found = name(int(match[1], 16))
        if found:
            notes.append(f"{match[1]} is {found}")
    return f"{line}{MARK}{', '.join(dict.fromkeys(notes))}" if notes else line


def _sources(lines: Iterable[str], symbols: Symbols) -> dict[str, str]:
    """What is named in the log -> "file:line", where the symbols have debug information."""
    if symbols.lines is None:
        return {}
    wanted: dict[str, int] = {}
    for line in lines:
        for match in _NAMED.finditer(line):
            start = symbols.address(match[1])
            if start is not None:
                # a return address is behind the call
                back = 0 if "RIP:" in line else 1
                wanted[match[0]] = start + int(match[2], 16) - back
    found = symbols.lines(sorted(set(wanted.values())))
    return {text: found[address] for text, address in wanted.items() if address in found}
