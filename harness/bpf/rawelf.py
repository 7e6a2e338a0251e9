# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""ELF as plain records: sections, symbols, relocations of one BPF object file.

Owns the reading of ELF64 (System V ABI, "Object Files") and the errors for files that are not
usable BPF ELF. Every offset, count and size is held against the file's length before anything is
made of it. What the sections mean is harness.bpf.elf's business.
"""

import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import ObjectError

if TYPE_CHECKING:
    from mmap import mmap

MAX_SIZE_BYTES = 64 << 20
# libbpf has no limits; the largest object of the kernel's selftests has 600 symbols
MAX_SYMBOLS = 200_000
MAX_RELOCATIONS = 500_000
_RECIPE = "clang -g -O2 -target bpf -c prog.bpf.c -o prog.bpf.o"
_AGAIN = f"compile it again: {_RECIPE}"
_HEADER_BYTES = 64
_EM_BPF = 247
_MACHINES = {3: "x86", 62: "x86-64", 183: "arm64", 243: "RISC-V", 22: "s390", 21: "powerpc64"}
# name, type, flags, addr, offset, size, link, info, addralign, entsize
_SECTION = struct.Struct("<IIQQQQIIQQ")
# name, info, other, shndx, value, size
_SYMBOL = struct.Struct("<IBBHQQ")
# offset, info
_REL = struct.Struct("<QQ")
_SHF_EXECINSTR = 4
_SYMTAB, _STRTAB, _REL_TYPE, _NOBITS = "SHT_SYMTAB", "SHT_STRTAB", "SHT_REL", "SHT_NOBITS"
_SECTION_TYPES = {
    0: "SHT_NULL", 1: "SHT_PROGBITS", 2: _SYMTAB, 3: _STRTAB, 4: "SHT_RELA", 7: "SHT_NOTE",
    8: _NOBITS, 9: _REL_TYPE,
}  # fmt: skip
_SYMBOL_TYPES = {
    0: "STT_NOTYPE", 1: "STT_OBJECT", 2: "STT_FUNC", 3: "STT_SECTION", 4: "STT_FILE"
}  # fmt: skip
_BINDINGS = {0: "STB_LOCAL", 1: "STB_GLOBAL", 2: "STB_WEAK"}
_HIDDEN = frozenset({1, 2})  # STV_INTERNAL, STV_HIDDEN
_RESERVED = 0xFF00  # SHN_LORESERVE: absolute and common symbols are in no section


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
    return parse(name, read_bytes(name))


def parse(name: str, data: bytes) -> RawElf:
    """Read the bytes of a file; `name` is for messages. Raises ObjectError."""
    _check_header(name, data)
    return _tables(name, data)


def read_bytes(name: str) -> bytes:
    try:
        with open(name, "rb") as file:  # noqa: PTH123  # a path may be a str
            data = file.read(MAX_SIZE_BYTES + 1)
    except FileNotFoundError:
        raise ObjectError(
            f"{name or repr(name)}: no such file",
            fix=f"give a compiled BPF object, made by: {_RECIPE}",
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ObjectError(f"{name}: cannot be read: {reason}") from error
    if len(data) > MAX_SIZE_BYTES:
        raise ObjectError(f"{name}: larger than {MAX_SIZE_BYTES >> 20} MiB: not a BPF object")
    return data


def _check_header(name: str, data: bytes) -> None:
    if not data:
        raise ObjectError(f"{name}: empty file", fix=_AGAIN)
    if data[:4] != b"\x7fELF":
        hint = "this looks like C source; " if name.endswith(".c") else ""
        raise ObjectError(f"{name}: not an ELF file", fix=f"{hint}compile it: {_RECIPE}")
    if len(data) < _HEADER_BYTES:
        raise ObjectError(
            f"{name}: truncated ELF header ({len(data)} of {_HEADER_BYTES} bytes)",
            fix=_AGAIN,
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


def _tables(name: str, data: bytes) -> RawElf:
    headers = section_headers(name, data)
    sections = _sections(name, data, headers)
    symbols: tuple[Symbol, ...] = ()
    for section, header in zip(sections, headers, strict=True):
        if section.type == _SYMTAB:
            symbols = _symbols(name, section, header, sections)
            break
    left, relocations = MAX_RELOCATIONS, {}
    for section, header in zip(sections, headers, strict=True):
        if section.type == _REL_TYPE and _is_wanted(sections, header.info):
            left -= len(section.data) // _REL.size
            if left < 0:
                raise ObjectError(f"{name}: more than {MAX_RELOCATIONS} relocations")
            relocations[header.info] = _relocations(name, section, symbols)
    return RawElf(name, sections, symbols, relocations)


def _is_wanted(sections: tuple[Section, ...], target: int) -> bool:
    """Relocations of code and of maps; those of debug information are many and of no use."""
    return target < len(sections) and (
        sections[target].executable or sections[target].name == ".maps"
    )


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """One row of the section header table, as it is in the file."""

    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entry: int


def section_headers(path: str, data: "bytes | mmap") -> list[SectionHeader]:
    """The section header table of a 64-bit little-endian ELF file. Raises ObjectError."""
    table = int.from_bytes(data[40:48], "little")
    entry, count, names = struct.unpack_from("<HHH", data, 58)
    if count and entry != _SECTION.size:
        raise ObjectError(f"{path}: section headers of {entry} bytes, not 64", fix=_AGAIN)
    if table + entry * count > len(data):
        raise ObjectError(
            f"{path}: truncated: section table ends at byte {table + entry * count}, "
            f"the file has {len(data)}",
            fix=_AGAIN,
        )
    rows = [_SECTION.unpack_from(data, table + i * _SECTION.size) for i in range(count)]
    if not rows:
        return []
    if names >= count:
        raise ObjectError(f"{path}: section {names} should hold names, there are {count}")
    start, length = rows[names][4], rows[names][5]
    if start + length > len(data):
        raise ObjectError(f"{path}: truncated: section names end at byte {start + length}")
    strings = bytes(data[start : start + length])
    return [
        SectionHeader(_text(path, strings, row[0]), row[1], row[2], row[4],
                      row[5], row[6], row[7], row[9])
        for row in rows
    ]  # fmt: skip


def _text(path: str, strings: bytes, offset: int) -> str:
    end = strings.find(b"\0", offset) if offset < len(strings) else -1
    if end < 0 or end - offset > _MAX_NAME:
        raise ObjectError(f"{path}: no name at byte {offset} of a string table", fix=_AGAIN)
    return strings[offset:end].decode(errors="replace")


# C++ has long names; nobody else has
_MAX_NAME = 4096


def _sections(path: str, data: bytes, headers: list[SectionHeader]) -> tuple[Section, ...]:
    # sections may overlap: together they may not be larger than the file could hold
    left, found = 2 * MAX_SIZE_BYTES, []
    for index, header in enumerate(headers):
        kind = _SECTION_TYPES.get(header.type, f"SHT_{header.type:#x}")
        left -= 0 if kind == "SHT_NULL" else header.size
        if left < 0:
            raise ObjectError(
                f"{path}: section {header.name!r} of {header.size} bytes: too large in all"
            )
        end = header.offset + header.size
        if kind in (_NOBITS, "SHT_NULL"):
            content = bytes(header.size) if kind == _NOBITS else b""
        elif end > len(data):
            raise ObjectError(
                f"{path}: truncated: section {header.name!r} ends at byte {end}, "
                f"the file has {len(data)}",
                fix=_AGAIN,
            )
        else:
            content = data[header.offset : end]
        executable = bool(header.flags & _SHF_EXECINSTR) and kind == "SHT_PROGBITS"
        found.append(Section(index, header.name, kind, executable, content))
    return tuple(found)


def _symbols(
    path: str, section: Section, header: SectionHeader, sections: tuple[Section, ...]
) -> tuple[Symbol, ...]:
    if len(section.data) % _SYMBOL.size or len(section.data) > MAX_SYMBOLS * _SYMBOL.size:
        raise ObjectError(f"{path}: symbol table of {len(section.data)} bytes", fix=_AGAIN)
    if header.link >= len(sections):
        raise ObjectError(f"{path}: symbol names are in section {header.link}, which is not there")
    names = sections[header.link].data
    return tuple(_symbol(path, row, names, sections) for row in _SYMBOL.iter_unpack(section.data))


def _symbol(path: str, row: tuple[int, ...], names: bytes, sections: tuple[Section, ...]) -> Symbol:
    name_at, info, other, where, value, size = row
    kind = _SYMBOL_TYPES.get(info & 0xF, f"STT_{info & 0xF}")
    index = where if where < _RESERVED else -1
    if index >= len(sections):
        raise ObjectError(f"{path}: a symbol is in section {index} of {len(sections)}", fix=_AGAIN)
    section_name = kind == "STT_SECTION" and not name_at and index >= 0
    return Symbol(
        name=sections[index].name if section_name else _text(path, names, name_at),
        section=index,
        offset=value,
        size_bytes=size,
        type=kind,
        binding=_BINDINGS.get(info >> 4, f"STB_{info >> 4}"),
        hidden=other & 3 in _HIDDEN,
    )


def _relocations(
    path: str, section: Section, symbols: tuple[Symbol, ...]
) -> tuple[Relocation, ...]:
    if len(section.data) % _REL.size:
        raise ObjectError(f"{path}: relocations of {len(section.data)} bytes in {section.name!r}")
    found = []
    for offset, info in _REL.iter_unpack(section.data):
        if info >> 32 >= len(symbols):
            raise ObjectError(
                f"{path}: {section.name!r}: symbol #{info >> 32} not found for the relocation "
                f"of byte {offset}",
                fix=_AGAIN,
            )
        found.append(Relocation(offset, info & 0xFFFF_FFFF, symbols[info >> 32]))
    return tuple(found)
