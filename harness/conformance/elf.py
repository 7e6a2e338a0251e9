# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The instructions of one function in an ELF object, for the plugin's --elf.

Reads what the public suite writes: sections, a symbol table, one FUNC `main`, no relocations.
Objects with BTF, maps and the rest are harness.bpf.elf's, whose parser takes as long to import as
a test may take.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from harness.errors import ObjectError

_EM_BPF = 247
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB, _RELA, _NOBITS, _REL = 2, 4, 8, 9
_FUNC = 2


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


def main_of(data: bytes, name: str = "main") -> bytes:
    """Code of function `name`. Raises ObjectError for what is no such object."""
    try:
        sections = _sections(data)
        found = _symbol(data, sections, name)
    except (struct.error, OverflowError):  # an offset of 64 bits is beyond any buffer
        raise ObjectError("truncated ELF object") from None
    if found is None:
        raise ObjectError(f"no function {name!r} in the ELF object")
    index, start, size = found
    if not 0 < index < len(sections):
        raise ObjectError(f"function {name!r} is in no section")
    if any(s.type in (_REL, _RELA) and s.info == index and s.size for s in sections):
        raise ObjectError(f"function {name!r} has relocations", fix="bpfthrow sim OBJECT runs it")
    code = _content(data, sections[index])
    end = start + size if size else len(code)
    if not start < end <= len(code):
        raise ObjectError(f"function {name!r} is outside its section")
    return code[start:end]


def _sections(data: bytes) -> list[_Section]:
    if data[:4] != b"\x7fELF":
        raise ObjectError("not an ELF object")
    header = _HEADER.unpack_from(data)
    ident, machine, offset, entry, count = header[0], header[2], header[6], header[11], header[12]
    if ident[4:6] != b"\x02\x01" or machine != _EM_BPF or entry != _SECTION.size:
        raise ObjectError("not a 64-bit little-endian BPF object")
    return [_Section(*_SECTION.unpack_from(data, offset + index * entry)) for index in range(count)]


def _content(data: bytes, section: _Section) -> bytes:
    end = section.offset + section.size
    if section.type == _NOBITS or end > len(data):
        raise ObjectError("truncated ELF object")
    return data[section.offset : end]


def _symbol(data: bytes, sections: list[_Section], wanted: str) -> tuple[int, int, int] | None:
    """Section, offset and size of a function."""
    for table in sections:
        if table.type != _SYMTAB or table.link >= len(sections):
            continue
        names = _content(data, sections[table.link])
        for at, info, _other, index, value, size in _symbols(_content(data, table)):
            if info & 0xF == _FUNC and names[at:].partition(b"\0")[0] == wanted.encode():
                return index, value, size
    return None


def _symbols(content: bytes) -> Iterator[tuple[int, int, int, int, int, int]]:
    whole = len(content) - len(content) % _SYMBOL.size
    yield from _SYMBOL.iter_unpack(content[:whole])
