# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BTF, the type information of a BPF object, and the line table of .BTF.ext.

Owns the binary formats of .BTF and .BTF.ext (Documentation/bpf/btf.rst) and look-ups in them.
Does not know ELF: offsets of variables come from symbols, see harness.bpf.elf.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from harness.errors import ObjectError

_MAGIC = 0xEB9F
_MAX_DEPTH = 32  # of nested modifiers and arrays, as in the kernel's MAX_RESOLVE_DEPTH


class Kind(IntEnum):
    """BTF_KIND_*."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
_SIZED = frozenset({Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.DATASEC, Kind.FLOAT,
                    Kind.ENUM64})  # fmt: skip
# bytes of one trailing element, and whether there are `vlen` of them (else one)
_TAIL = {
    Kind.INT: (4, False),
    Kind.ARRAY: (12, False),
    Kind.STRUCT: (12, True),
    Kind.UNION: (12, True),
    Kind.ENUM: (8, True),
    Kind.FUNC_PROTO: (8, True),
    Kind.VAR: (4, False),
    Kind.DATASEC: (12, True),
    Kind.DECL_TAG: (4, False),
    Kind.ENUM64: (12, True),
}
LINKAGE = {0: "static", 1: "global", 2: "extern"}


@dataclass(frozen=True, slots=True)
class Member:
    """A struct member, a function parameter or a variable of a data section."""

    name: str
    type_id: int
    # bits from the start for STRUCT and UNION, bytes for DATASEC
    offset: int = 0
    # bytes; DATASEC only
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Type:
    """One type record; fields that its kind lacks are 0 or empty."""

    id: int
    kind: Kind
    name: str
    # number of members, or the linkage of a FUNC
    vlen: int
    size_bytes: int = 0
    # what it points to, returns, tags, or has as element
    type_id: int = 0
    members: tuple[Member, ...] = ()
    # elements of an ARRAY
    count: int = 0
    # "static", "global" or "extern" of a FUNC or VAR
    linkage: str = ""
    # of a DECL_TAG: -1 for the whole, else the index of a member or parameter
    component: int = -1


_VOID = Type(0, Kind.VOID, "", 0)


@dataclass(frozen=True, slots=True)
class Btf:
    """All types of one object; `types[i].id == i`."""

    types: tuple[Type, ...]
    strings: bytes = field(repr=False, default=b"\0")

    def type(self, type_id: int) -> Type:
        """Type number `type_id`. Raises ObjectError when there is none."""
        if 0 <= type_id < len(self.types):
            return self.types[type_id]
        raise ObjectError(f"BTF: type id {type_id} out of range (0..{len(self.types) - 1})")

    def resolve(self, type_id: int) -> Type:
        """Type `type_id` without typedef, const, volatile, restrict and type tags."""
        for _ in range(_MAX_DEPTH):
            found = self.type(type_id)
            if found.kind not in _MODIFIERS:
                return found
            type_id = found.type_id
        raise ObjectError(f"BTF: modifiers of type id {type_id} nest too deep or in a circle")

    def size_of(self, type_id: int) -> int:
        """Size of a value of the type in bytes (0 for void and functions)."""
        count = 1
        for _ in range(_MAX_DEPTH):
            found = self.resolve(type_id)
            if found.kind is Kind.PTR:
                return 8 * count
            if found.kind is not Kind.ARRAY:
                return found.size_bytes * count
            count, type_id = count * found.count, found.type_id
        raise ObjectError(f"BTF: arrays of type id {type_id} nest too deep or in a circle")

    def find(self, kind: Kind, name: str) -> Type | None:
        """First type of this kind and name."""
        return next((t for t in self.types if t.kind is kind and t.name == name), None)

    def tags_of(self, type_id: int) -> tuple[str, ...]:
        """Declaration tags on the whole of a type (component -1), in BTF order."""
        return tuple(
            t.name
            for t in self.types
            if t.kind is Kind.DECL_TAG and t.type_id == type_id and t.component == -1
        )

    def string(self, offset: int) -> str:
        """String at `offset` of the string section."""
        end = self.strings.find(b"\0", offset)
        if not 0 <= offset < len(self.strings) or end < 0:
            raise ObjectError(f"BTF: string offset {offset} out of range")
        return self.strings[offset:end].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Line:
    """Where an instruction comes from."""

    file: str
    number: int
    # the source line itself, without indentation
    text: str


@dataclass(frozen=True, slots=True)
class Relocation:
    """A CO-RE relocation: bpf_core_relo_kind, see enum bpf_core_relo_kind in linux/bpf.h."""

    type_id: int
    access: str
    kind: int


@dataclass(frozen=True, slots=True)
class Ext:
    """.BTF.ext: per section name, byte offset of an instruction -> what is known of it."""

    lines: dict[str, dict[int, Line]] = field(default_factory=dict)
    core: dict[str, dict[int, Relocation]] = field(default_factory=dict)


def parse(data: bytes) -> Btf:
    """Read a .BTF section. Raises ObjectError for anything that is not well-formed BTF."""
    try:
        return _parse(data)
    except (struct.error, ValueError, IndexError) as error:
        raise ObjectError(f"BTF: broken section: {error}", fix="compile again with -g") from error


def _header(data: bytes) -> int:
    """Check magic and version; return the header's length in bytes."""
    magic, version, _flags, length = struct.unpack_from("<HBBI", data)
    if magic != _MAGIC:
        raise ObjectError(f"BTF: magic 0x{magic:04x}, expected 0x{_MAGIC:04x} (little endian)")
    if version != 1:
        raise ObjectError(f"BTF: version {version}, only 1 is known")
    return int(length)


def _slice(data: bytes, start: int, length: int) -> bytes:
    if start + length > len(data):
        raise ObjectError(f"BTF: truncated: {start + length} bytes promised, {len(data)} there")
    return data[start : start + length]


def _parse(data: bytes) -> Btf:
    length = _header(data)
    type_off, type_len, str_off, str_len = struct.unpack_from("<IIII", data, 8)
    strings = _slice(data, length + str_off, str_len)
    body = _slice(data, length + type_off, type_len)
    names = Btf((), strings)
    types, offset = [_VOID], 0
    while offset < len(body):
        record, offset = _parse_type(body, offset, len(types), names)
        types.append(record)
    return Btf(tuple(types), strings)


def _parse_type(body: bytes, offset: int, type_id: int, names: Btf) -> tuple[Type, int]:
    name_off, info, size_or_type = struct.unpack_from("<III", body, offset)
    kind, vlen, flag = Kind(info >> 24 & 0x1F), info & 0xFFFF, bool(info >> 31)
    size, many = _TAIL.get(kind, (0, False))
    start = offset + 12
    end = start + size * (vlen if many else 1)
    if end > len(body):
        raise ObjectError(f"BTF: type {type_id} ({kind.name}) runs past the end")
    tail = [body[at : at + size] for at in range(start, end, size)] if size else []
    name = names.string(name_off)
    if kind in _SIZED:
        members = _members(kind, tail, names, flag=flag)
        return Type(type_id, kind, name, vlen, size_bytes=size_or_type, members=members), end
    return _reference(Type(type_id, kind, name, vlen, type_id=size_or_type), tail, names), end


def _members(kind: Kind, tail: list[bytes], names: Btf, *, flag: bool) -> tuple[Member, ...]:
    if kind in (Kind.STRUCT, Kind.UNION):
        rows = [struct.unpack("<III", row) for row in tail]
        mask = 0xFFFFFF if flag else 0xFFFFFFFF  # kind_flag: the high byte is a bit field's size
        return tuple(Member(names.string(n), t, offset & mask) for n, t, offset in rows)
    if kind is Kind.DATASEC:
        rows = [struct.unpack("<III", row) for row in tail]
        return tuple(Member("", t, offset, size) for t, offset, size in rows)
    return ()


def _reference(base: Type, tail: list[bytes], names: Btf) -> Type:
    """Fill in what the kinds that refer to another type carry behind the header."""
    kind, given = base.kind, {"id": base.id, "kind": base.kind, "name": base.name}
    if kind is Kind.ARRAY:
        element, _index, count = struct.unpack("<III", tail[0])
        return Type(**given, vlen=0, type_id=element, count=count)  # type: ignore[arg-type]
    if kind is Kind.FUNC_PROTO:
        rows = [struct.unpack("<II", row) for row in tail]
        params = tuple(Member(names.string(n), t) for n, t in rows)
        return Type(base.id, kind, base.name, base.vlen, type_id=base.type_id, members=params)
    if kind is Kind.FUNC:
        linkage = LINKAGE.get(base.vlen, "")
        return Type(base.id, kind, base.name, 0, type_id=base.type_id, linkage=linkage)
    if kind is Kind.VAR:
        linkage = LINKAGE.get(struct.unpack("<I", tail[0])[0], "")
        return Type(base.id, kind, base.name, 0, type_id=base.type_id, linkage=linkage)
    if kind is Kind.DECL_TAG:
        component = struct.unpack("<i", tail[0])[0]
        return Type(base.id, kind, base.name, 0, type_id=base.type_id, component=component)
    return base


def parse_ext(data: bytes, btf: Btf) -> Ext:
    """Read a .BTF.ext section. Raises ObjectError for a broken one."""
    try:
        length = _header(data)
        line_off, line_len = struct.unpack_from("<II", data, 16)
        core_off, core_len = struct.unpack_from("<II", data, 24) if length >= 32 else (0, 0)
        ext = Ext()
        for section, at, row in _rows(_slice(data, length + line_off, line_len), btf):
            file, text, column = struct.unpack_from("<III", row)
            line = Line(btf.string(file), column >> 10, btf.string(text).strip())
            ext.lines.setdefault(section, {})[at] = line
        for section, at, row in _rows(_slice(data, length + core_off, core_len), btf):
            type_id, access, kind = struct.unpack_from("<III", row)
            relo = Relocation(type_id, btf.string(access), kind)
            ext.core.setdefault(section, {})[at] = relo
    except (struct.error, ValueError, IndexError) as error:
        raise ObjectError(f"BTF.ext: broken section: {error}") from error
    return ext


def _rows(body: bytes, btf: Btf) -> Iterator[tuple[str, int, bytes]]:
    """Yield (section, byte offset of the instruction, rest of the record)."""
    if not body:
        return
    (size,) = struct.unpack_from("<I", body)
    if size < 16:
        raise ObjectError(f"BTF.ext: record size {size} is too small")
    at = 4
    while at < len(body):
        name, count = struct.unpack_from("<II", body, at)
        section, at = btf.string(name), at + 8
        for _ in range(count):
            row = _slice(body, at, size)
            yield section, struct.unpack_from("<I", row)[0], row[4:]
            at += size
