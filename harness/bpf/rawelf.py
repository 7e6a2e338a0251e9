# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""ELF as plain records: sections, symbols, relocations of one BPF object file.

Owns the only use of pyelftools and the errors for files that are not usable BPF ELF. What the
sections mean is harness.bpf.elf's business.
"""

import io
import os
from dataclasses import dataclass, field

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from harness.errors import ObjectError

MAX_SIZE_BYTES = 64 << 20
_RECIPE = "clang -g -O2 -target bpf -c prog.bpf.c -o prog.bpf.o"
_HEADER_BYTES = 64
_EM_BPF = 247
_MACHINES = {3: "x86", 62: "x86-64", 183: "arm64", 243: "RISC-V", 22: "s390", 21: "powerpc64"}


@dataclass(frozen=True, slots=True)
class Section:
    """One ELF section with its bytes (zeros for NOBITS)."""

    index: int
    name: str
    # "SHT_PROGBITS", "SHT_NOBITS", ...
    type: str
    executable: bool
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Symbol:
    """One ELF symbol."""

    name: str
    # section index; 0 where undefined
    section: int
    offset: int
    size_bytes: int
    # "STT_FUNC", "STT_OBJECT", "STT_SECTION", "STT_NOTYPE"
    type: str
    # "STB_LOCAL", "STB_GLOBAL", "STB_WEAK"
    binding: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class Relocation:
    """One relocation: a place in a section and the symbol that goes there."""

    offset: int
    type: int
    symbol: Symbol


@dataclass(frozen=True, slots=True)
class RawElf:
    """An ELF file's tables."""

    path: str
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    # index of the section that is patched -> its relocations
    relocations: dict[int, tuple[Relocation, ...]]


def read(path: str | os.PathLike[str]) -> RawElf:
    """Read the file. Raises ObjectError: missing, not ELF, other machine, truncated, broken."""
    name = os.fspath(path)
    data = _read_bytes(name)
    _check_header(name, data)
    try:
        return _tables(name, data)
    except ObjectError:
        raise
    except Exception as error:  # pyelftools raises whatever its parser trips on
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ObjectError(
            f"{name}: broken ELF tables ({reason})", fix=f"compile it again: {_RECIPE}"
        ) from error


def _read_bytes(name: str) -> bytes:
    try:
        with open(name, "rb") as file:  # noqa: PTH123  # a path may be a str
            data = file.read(MAX_SIZE_BYTES + 1)
    except FileNotFoundError:
        raise ObjectError(
            f"{name}: no such file", fix=f"give a compiled BPF object, made by: {_RECIPE}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ObjectError(f"{name}: cannot be read: {reason}") from error
    if len(data) > MAX_SIZE_BYTES:
        raise ObjectError(f"{name}: larger than {MAX_SIZE_BYTES >> 20} MiB: not a BPF object")
    return data


def _check_header(name: str, data: bytes) -> None:
    if not data:
        raise ObjectError(f"{name}: empty file", fix=f"compile it again: {_RECIPE}")
    if data[:4] != b"\x7fELF":
        hint = "this looks like C source; " if name.endswith(".c") else ""
        raise ObjectError(f"{name}: not an ELF file", fix=f"{hint}compile it: {_RECIPE}")
    if len(data) < _HEADER_BYTES:
        raise ObjectError(
            f"{name}: truncated ELF header ({len(data)} of {_HEADER_BYTES} bytes)",
            fix=f"compile it again: {_RECIPE}",
        )
    machine = int.from_bytes(data[18:20], "little" if data[5] == 1 else "big")
    if machine != _EM_BPF:
        found = _MACHINES.get(machine, f"machine number {machine}")
        raise ObjectError(
            f"{name}: an ELF object for {found}, not for BPF",
            fix=f"compile it with -target bpf: {_RECIPE}",
        )
    if data[4] != 2 or data[5] != 1:
        raise ObjectError(
            f"{name}: not a 64-bit little-endian BPF object", fix="compile with -target bpfel"
        )
    table_off = int.from_bytes(data[40:48], "little")
    entry, count = (int.from_bytes(data[at : at + 2], "little") for at in (58, 60))
    if table_off + entry * count > len(data):
        raise ObjectError(
            f"{name}: truncated: section table ends at byte {table_off + entry * count}, "
            f"the file has {len(data)}",
            fix=f"compile it again: {_RECIPE}",
        )


def _tables(name: str, data: bytes) -> RawElf:
    elf = ELFFile(io.BytesIO(data))
    found = list(elf.iter_sections())
    sections = tuple(_section(name, i, section, len(data)) for i, section in enumerate(found))
    tables = [s for s in found if isinstance(s, SymbolTableSection)]
    symbols = tuple(_symbol(s, sections) for s in tables[0].iter_symbols()) if tables else ()
    relocations = {
        int(s["sh_info"]): tuple(
            Relocation(int(r["r_offset"]), int(r["r_info_type"]), symbols[r["r_info_sym"]])
            for r in s.iter_relocations()
        )
        for s in found
        if isinstance(s, RelocationSection)
    }
    return RawElf(name, sections, symbols, relocations)


def _section(path: str, index: int, section: object, file_size: int) -> Section:
    header = section.header  # type: ignore[attr-defined]
    name = str(section.name)  # type: ignore[attr-defined]
    size, offset, kind = int(header["sh_size"]), int(header["sh_offset"]), str(header["sh_type"])
    if kind == "SHT_NOBITS":
        if size > MAX_SIZE_BYTES:
            raise ObjectError(f"{path}: section {name!r} claims {size} bytes of zeros")
        data = bytes(size)
    elif kind == "SHT_NULL":
        data = b""
    elif offset + size > file_size:
        raise ObjectError(
            f"{path}: truncated: section {name!r} ends at byte {offset + size}, "
            f"the file has {file_size}",
            fix=f"compile it again: {_RECIPE}",
        )
    else:
        data = bytes(section.data())  # type: ignore[attr-defined]
    return Section(index, name, kind, bool(header["sh_flags"] & 4), data)


_SPECIAL_SECTIONS = {"SHN_UNDEF": 0}


def _symbol(symbol: object, sections: tuple[Section, ...]) -> Symbol:
    entry = symbol.entry  # type: ignore[attr-defined]
    where = entry["st_shndx"]
    index = where if isinstance(where, int) else _SPECIAL_SECTIONS.get(where, -1)
    kind, name = str(entry["st_info"]["type"]), str(symbol.name)  # type: ignore[attr-defined]
    if kind == "STT_SECTION" and 0 <= index < len(sections):
        name = sections[index].name
    return Symbol(
        name=name,
        section=index,
        offset=int(entry["st_value"]),
        size_bytes=int(entry["st_size"]),
        type=kind,
        binding=str(entry["st_info"]["bind"]),
        hidden=entry["st_other"]["visibility"] in ("STV_HIDDEN", "STV_INTERNAL"),
    )
