# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
""".BTF.ext: what the compiler says of single instructions: lines, functions, CO-RE relocations.

Owns the binary format (Documentation/bpf/btf.rst, "BTF.ext section"). Keys are byte offsets in the
section of code that the records are for; which program they end up in is harness.bpf.link's
business.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.bpf.btf import Btf, header, part
from harness.errors import ObjectError

_WHAT = "BTF.ext"
_HEADER_BYTES = 24
_HEADER_WITH_CORE_BYTES = 32
MAX_SIZE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """Where an instruction comes from."""

    file: str
    number: int
    # the source line itself, without indentation
    text: str


@dataclass(frozen=True, slots=True)
class CoreRelocation:
    """A CO-RE relocation; `kind` is one of enum bpf_core_relo_kind in linux/bpf.h."""

    type_id: int
    # "0:1:2": indexes of members and elements, see harness.bpf.core
    access: str
    kind: int


@dataclass(frozen=True, slots=True)
class Ext:
    """Per section name, byte offset of an instruction -> what is known of it."""

    # BTF id of the FUNC that starts there
    functions: dict[str, dict[int, int]] = field(default_factory=dict)
    lines: dict[str, dict[int, Line]] = field(default_factory=dict)
    core: dict[str, dict[int, CoreRelocation]] = field(default_factory=dict)


def parse_ext(data: bytes, btf: Btf) -> Ext:
    """Read a .BTF.ext section. Raises ObjectError for a broken one."""
    length = header(data, _WHAT, _HEADER_BYTES)
    if len(data) > MAX_SIZE_BYTES:
        raise ObjectError(f"{_WHAT}: {len(data)} bytes, more than {MAX_SIZE_BYTES} are not taken")
    places = struct.unpack_from("<IIII", data, 8)
    core_place = (
        struct.unpack_from("<II", data, 24) if length >= _HEADER_WITH_CORE_BYTES else (0, 0)
    )
    functions = part(data, _WHAT, length + places[0], places[1])
    lines = part(data, _WHAT, length + places[2], places[3])
    core = part(data, _WHAT, length + core_place[0], core_place[1])
    ext = Ext()
    for section, at, (type_id,) in _rows(functions, btf, "<I"):
        ext.functions.setdefault(section, {})[at] = type_id
    for section, at, (file, text, place) in _rows(lines, btf, "<III"):
        line = Line(btf.string(file), place >> 10, btf.string(text).strip())
        ext.lines.setdefault(section, {})[at] = line
    for section, at, (type_id, access, kind) in _rows(core, btf, "<III"):
        relocation = CoreRelocation(type_id, btf.string(access), kind)
        ext.core.setdefault(section, {})[at] = relocation
    return ext


def _rows(body: bytes, btf: Btf, form: str) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Yield (section, byte offset of the instruction, fields) of one subsection."""
    if not body:
        return
    row = struct.Struct("<I" + form[1:])
    size = int.from_bytes(body[:4], "little")
    if size < row.size or size % 4:
        raise ObjectError(f"{_WHAT}: record size {size}, at least {row.size} are needed")
    at = 4
    while at < len(body):
        name, count = struct.unpack("<II", part(body, _WHAT, at, 8))
        section, at = btf.string(name), at + 8
        if at + count * size > len(body):
            raise ObjectError(f"{_WHAT}: {count} records of section {section!r} are not all there")
        for _ in range(count):
            offset, *fields = row.unpack_from(body, at)
            yield section, offset, tuple(fields)
            at += size
