# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BTF, the type information of an object or of a kernel.

Owns the binary format of .BTF (Documentation/bpf/btf.rst) and look-ups in it. A kernel has more
than a hundred thousand types of which a program needs ten: opening only finds where each record
starts; a record is decoded when somebody asks for it. Does not know ELF: offsets of variables come
from symbols, see harness.bpf.elf.
"""

import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from harness.errors import ObjectError

_MAGIC = 0xEB9F
_HEADER_BYTES = 24
_MAX_DEPTH = 32  # of nested modifiers and arrays, as in the kernel's MAX_RESOLVE_DEPTH
# Linux 7.3 has 130,000 types in 6 MB; the kernel itself takes no more than BTF_MAX_SIZE
MAX_SIZE_BYTES = 16 << 20
MAX_TYPES = 400_000
# of all strings together that are ever decoded: they may overlap, so that a small file names much
_MAX_TEXT = 64 << 20


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


MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
COMPOSITES = frozenset({Kind.STRUCT, Kind.UNION})
ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})
_SIZED = frozenset({Kind.INT, Kind.FLOAT, Kind.DATASEC}) | COMPOSITES | ENUMS
# 32-bit words behind the three of every record: kind -> (once, for each of `vlen` elements)
_TAIL = {
    Kind.INT: (1, 0),
    Kind.ARRAY: (3, 0),
    Kind.STRUCT: (0, 3),
    Kind.UNION: (0, 3),
    Kind.ENUM: (0, 2),
    Kind.FUNC_PROTO: (0, 2),
    Kind.VAR: (1, 0),
    Kind.DATASEC: (0, 3),
    Kind.DECL_TAG: (1, 0),
    Kind.ENUM64: (0, 3),
}
# the same by number of the kind; -1: no such kind
_ONCE = [3 + _TAIL.get(Kind(k), (0, 0))[0] if k in set(Kind) else -1 for k in range(32)]
_EACH = [_TAIL.get(Kind(k), (0, 0))[1] if k in set(Kind) else 0 for k in range(32)]
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
    # of a bit field; 0 for every other member
    bit_size: int = 0


@dataclass(frozen=True, slots=True)
class Enumerator:
    """One name of an enum."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Type:
    """One type record; fields that its kind lacks are 0 or empty."""

    id: int
    kind: Kind
    name: str
    # number of members, parameters or enumerators
    vlen: int
    size_bytes: int = 0
    # what it points to, returns, tags, or has as element
    type_id: int = 0
    members: tuple[Member, ...] = ()
    values: tuple[Enumerator, ...] = ()
    # elements of an ARRAY
    count: int = 0
    # "static", "global" or "extern" of a FUNC or VAR
    linkage: str = ""
    # of a DECL_TAG: -1 for the whole, else the index of a member or parameter
    component: int = -1
    # the record's kind_flag: a FWD of a union, an enum with negative values
    flag: bool = False
    # of an INT: BTF_INT_SIGNED 1, BTF_INT_CHAR 2, BTF_INT_BOOL 4
    encoding: int = 0
    bits: int = 0
    bit_offset: int = 0

    @property
    def signed(self) -> bool:
        """Whether an INT has a sign."""
        return bool(self.encoding & 1)


_VOID = Type(0, Kind.VOID, "", 0)
_FLAVOUR = re.compile(r"(?s)(.*[^_])___[^_]")


def essential(name: str) -> str:
    """The name without what follows its last triple underscore: task_struct___old is task_struct.

    bpf_core_essential_name_len: neither side of the separator may be another underscore.
    """
    found = _FLAVOUR.match(name)
    return found[1] if found else name


@dataclass(frozen=True, slots=True)
class Btf:
    """All types of one object or kernel; type number 0 is void."""

    # the type section as 32-bit words
    _words: "memoryview[int]" = field(repr=False)
    # word at which record number i + 1 starts
    _starts: "array[int]" = field(repr=False)
    strings: bytes = field(repr=False)
    # whose types they are, for messages: a record is decoded, and found broken, long after opening
    where: str = "BTF"
    _decoded: dict[int, Type] = field(repr=False, default_factory=dict)
    _texts: dict[int, str] = field(repr=False, default_factory=dict)
    # how much of _MAX_TEXT is left
    _left: list[int] = field(repr=False, default_factory=lambda: [_MAX_TEXT])
    # name -> ids of the types that have it
    _names: dict[str, list[int]] = field(repr=False, default_factory=dict)
    # name without its flavour -> ids of the types that have one
    _flavours: dict[str, list[int]] = field(repr=False, default_factory=dict)

    def __len__(self) -> int:
        """Number of types, void included."""
        return len(self._starts) + 1

    @property
    def types(self) -> tuple[Type, ...]:
        """Every type, decoded; `types[i].id == i`."""
        return tuple(self.type(i) for i in range(len(self)))

    def type(self, type_id: int) -> Type:
        """Type number `type_id`. Raises ObjectError when there is none, or it is broken."""
        found = self._decoded.get(type_id)
        if found is None:
            if not 0 <= type_id < len(self):
                most = len(self) - 1
                raise ObjectError(f"{self.where}: type id {type_id} out of range (0..{most})")
            found = _decode(self, type_id) if type_id else _VOID
            self._decoded[type_id] = found
        return found

    def kind(self, type_id: int) -> Kind:
        """Kind of a type, without decoding it."""
        if not type_id:
            return Kind.VOID
        return Kind(self._words[self._starts[type_id - 1] + 1] >> 24 & 0x1F)

    def of_kind(self, *kinds: Kind) -> Iterator[Type]:
        """Types of these kinds, by id."""
        words, wanted = self._words, frozenset(int(kind) for kind in kinds)
        for index, start in enumerate(self._starts):
            if words[start + 1] >> 24 & 0x1F in wanted:
                yield self.type(index + 1)

    def resolve(self, type_id: int) -> Type:
        """Type `type_id` without typedef, const, volatile, restrict and type tags."""
        for _ in range(_MAX_DEPTH):
            found = self.type(type_id)
            if found.kind not in MODIFIERS:
                return found
            type_id = found.type_id
        raise self._tangled("modifiers", type_id)

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
        raise self._tangled("arrays", type_id)

    def _tangled(self, what: str, type_id: int) -> ObjectError:
        return ObjectError(
            f"{self.where}: {what} of type id {type_id} nest too deep or in a circle"
        )

    def find(self, kind: Kind, name: str) -> Type | None:
        """First type of this kind and name."""
        ids = self.named(name)
        return next((self.type(i) for i in ids if self.kind(i) is kind), None)

    def named(self, name: str, *, flavours: bool = False) -> list[int]:
        """Ids, in order, of types with this name; `flavours`: and with NAME___anything."""
        if not self._names:
            self._index()
        found = self._names.get(name, [])
        return sorted([*found, *self._flavours.get(name, ())]) if flavours else found

    def _index(self) -> None:
        places: dict[int, list[int]] = {}
        for index, start in enumerate(self._starts):
            places.setdefault(self._words[start], []).append(index + 1)
        at = 0
        for text in self.strings[:-1].split(b"\0"):
            ids = places.pop(at, None)
            if ids is not None:
                self._remember(text.decode(errors="replace"), ids)
            at += len(text) + 1
        for offset, ids in places.items():  # names that are the tail of another string
            self._remember(self.string(offset), ids)
        for several in self._names.values():
            several.sort()  # two strings may be equal

    def _remember(self, name: str, ids: list[int]) -> None:
        self._names.setdefault(name, []).extend(ids)
        if "___" in name and essential(name) != name:
            self._flavours.setdefault(essential(name), []).extend(ids)

    def string(self, offset: int) -> str:
        """String at `offset` of the string section."""
        found = self._texts.get(offset)
        if found is None:
            end = self.strings.find(b"\0", offset) if 0 <= offset < len(self.strings) else -1
            if end < 0:
                raise ObjectError(f"{self.where}: string offset {offset} out of range")
            self._left[0] -= end - offset
            if self._left[0] < 0:
                most = f"{_MAX_TEXT >> 20} MiB"
                raise ObjectError(f"{self.where}: more than {most} of overlapping strings")
            found = self._texts[offset] = self.strings[offset:end].decode(errors="replace")
        return found


def parse(data: bytes, where: str = "BTF") -> Btf:
    """Open a .BTF section. Raises ObjectError for anything that is not well-formed BTF.

    `where`: what later messages call it.
    """
    length = header(data, "BTF", _HEADER_BYTES)
    if len(data) > MAX_SIZE_BYTES:
        raise ObjectError(f"BTF: {len(data)} bytes, more than {MAX_SIZE_BYTES} are not taken")
    type_off, type_len, str_off, str_len = struct.unpack_from("<IIII", data, 8)
    strings = part(data, "BTF", length + str_off, str_len)
    body = part(data, "BTF", length + type_off, type_len)
    if type_len % 4:
        raise ObjectError(f"BTF: type section of {type_len} bytes is not a whole number of words")
    if not strings or strings[0] or strings[-1]:
        raise ObjectError("BTF: the string section does not start and end with a zero byte")
    words = memoryview(body).cast("I")
    return Btf(words, _scan(words), strings, where)


def header(data: bytes, what: str, least: int) -> int:
    """Check magic and version; the header's length in bytes, which is at least `least`."""
    if len(data) < least:
        raise ObjectError(
            f"{what}: truncated header: {len(data)} bytes", fix="compile again with -g"
        )
    magic, version, _flags, length = struct.unpack_from("<HBBI", data)
    if magic != _MAGIC:
        raise ObjectError(f"{what}: magic 0x{magic:04x}, expected 0x{_MAGIC:04x} (little endian)")
    if version != 1:
        raise ObjectError(f"{what}: version {version}, only 1 is known")
    if not least <= length <= len(data):
        raise ObjectError(f"{what}: header of {length} bytes in a section of {len(data)}")
    return int(length)


def part(data: bytes, what: str, start: int, length: int) -> bytes:
    """`length` bytes from `start`. Raises ObjectError where they are not all there."""
    if start + length > len(data):
        raise ObjectError(f"{what}: truncated: {start + length} bytes promised, {len(data)} there")
    return data[start : start + length]


def _scan(words: "memoryview[int]") -> "array[int]":
    """Where each record starts; that all of it is there."""
    starts, at, end = array("I"), 0, len(words)
    add, once, each = starts.append, _ONCE, _EACH
    while at < end - 2:
        info = words[at + 1]
        kind = info >> 24 & 0x1F
        size = once[kind]
        if size < 0 or not kind:
            raise ObjectError(f"BTF: type {len(starts) + 1} is of unknown kind {kind}")
        add(at)
        at += size + each[kind] * (info & 0xFFFF)
    if at != end:
        raise ObjectError(f"BTF: type {len(starts)} runs past the end")
    if len(starts) > MAX_TYPES:
        raise ObjectError(f"BTF: {len(starts)} types, more than {MAX_TYPES} are not taken")
    return starts


def _decode(btf: Btf, type_id: int) -> Type:
    words, at = btf._words, btf._starts[type_id - 1]  # noqa: SLF001  # part of Btf, kept short
    name, info, size_or_type = words[at], words[at + 1], words[at + 2]
    kind, vlen, flag = Kind(info >> 24 & 0x1F), info & 0xFFFF, bool(info >> 31)
    once, each = _TAIL.get(kind, (0, 0))
    tail = words[at + 3 : at + 3 + once + each * vlen].tolist()
    head = (type_id, kind, btf.string(name))
    if kind in COMPOSITES:
        members = tuple(_members(btf, tail, flag=flag))
        return Type(*head, vlen, size_bytes=size_or_type, members=members, flag=flag)
    if kind in ENUMS:
        values = tuple(_enumerators(btf, tail, each * 32 - 32, flag=flag))
        return Type(*head, vlen, size_bytes=size_or_type, values=values, flag=flag)
    if kind is Kind.INT:
        encoding, offset, bits = tail[0] >> 24 & 0xF, tail[0] >> 16 & 0xFF, tail[0] & 0xFF
        return Type(*head, 0, size_or_type, encoding=encoding, bits=bits, bit_offset=offset)
    if kind is Kind.DATASEC:
        rows = zip(tail[::3], tail[1::3], tail[2::3], strict=True)
        members = tuple(Member("", t, offset, size) for t, offset, size in rows)
        return Type(*head, vlen, size_bytes=size_or_type, members=members)
    if kind in _SIZED:
        return Type(*head, 0, size_bytes=size_or_type)
    return _reference(head, vlen, size_or_type, tail, btf, flag=flag)


def _members(btf: Btf, tail: list[int], *, flag: bool) -> Iterator[Member]:
    for name, type_id, offset in zip(tail[::3], tail[1::3], tail[2::3], strict=True):
        # kind_flag: the high byte is a bit field's size
        size = offset >> 24 if flag else 0
        yield Member(btf.string(name), type_id, offset & 0xFFFFFF if flag else offset, 0, size)


def _enumerators(btf: Btf, tail: list[int], bits: int, *, flag: bool) -> Iterator[Enumerator]:
    """`flag`: values are signed."""
    step = bits // 32 + 1
    for at in range(0, len(tail), step):
        value = sum(word << 32 * i for i, word in enumerate(tail[at + 1 : at + step]))
        signed = flag and value >> (bits - 1)
        yield Enumerator(btf.string(tail[at]), value - (1 << bits) if signed else value)


def _reference(
    head: tuple[int, Kind, str], vlen: int, type_id: int, tail: list[int], btf: Btf, *, flag: bool
) -> Type:
    """The kinds that refer to another type."""
    kind = head[1]
    if kind is Kind.ARRAY:
        return Type(*head, 0, type_id=tail[0], count=tail[2])
    if kind is Kind.FUNC_PROTO:
        rows = zip(tail[::2], tail[1::2], strict=True)
        params = tuple(Member(btf.string(name), t) for name, t in rows)
        return Type(*head, vlen, type_id=type_id, members=params)
    if kind is Kind.FUNC:
        return Type(*head, 0, type_id=type_id, linkage=LINKAGE.get(vlen, ""))
    if kind is Kind.VAR:
        return Type(*head, 0, type_id=type_id, linkage=LINKAGE.get(tail[0], ""))
    if kind is Kind.DECL_TAG:
        component = tail[0] - (1 << 32) if tail[0] >> 31 else tail[0]
        return Type(*head, 0, type_id=type_id, component=component)
    return Type(*head, vlen, type_id=type_id, flag=flag)
