# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Map definitions in BTF style (the .maps section), as libbpf reads them.

Owns the meaning of the attribute structs behind __uint, __type, __array and __ulong. Source:
parse_btf_map_def, fill_map_from_def and bpf_object__collect_map_relos in tools/lib/bpf/libbpf.c.
Does not create maps.
"""

import bisect
import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from harness.bpf.btf import Btf, Kind, Member, Type
from harness.bpf.rawelf import RawElf, Relocation, Symbol
from harness.errors import ObjectError

SECTION = ".maps"


class MapType(IntEnum):
    """enum bpf_map_type of Linux 6.9 and later."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    CGROUP_ARRAY = 8
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    SOCKMAP = 15
    CPUMAP = 16
    XSKMAP = 17
    SOCKHASH = 18
    CGROUP_STORAGE = 19
    REUSEPORT_SOCKARRAY = 20
    PERCPU_CGROUP_STORAGE = 21
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    DEVMAP_HASH = 25
    STRUCT_OPS = 26
    RINGBUF = 27
    INODE_STORAGE = 28
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    USER_RINGBUF = 31
    CGRP_STORAGE = 32
    ARENA = 33


MAPS_OF_MAPS = frozenset({MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS})
_RINGBUFS = frozenset({MapType.RINGBUF, MapType.USER_RINGBUF})
_PAGE_BYTES = 4096
_U32 = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class MapDef:
    """One map as its definition says it."""

    # of an inner map: that of the outer one and ".inner"
    name: str
    # enum bpf_map_type
    type: int
    key_size: int = 0
    value_size: int = 0
    # of a ring buffer: made a power of two of pages, as libbpf does
    max_entries: int = 0
    flags: int = 0
    # (index, name of the program or map that is put there at load)
    values: tuple[tuple[int, str], ...] = ()
    # what a map of maps holds
    inner: "MapDef | None" = None
    # of the definition in section .maps, bytes
    offset: int = 0
    # meaning depends on the type: bloom filter: number of hashes; arena: address in user space
    map_extra: int = 0
    numa_node: int = 0
    # LIBBPF_PIN_BY_NAME was asked for; nothing is pinned here
    pinned: bool = False
    # BTF types of key and value; 0 where only sizes are given
    key_type_id: int = 0
    value_type_id: int = 0

    @property
    def type_name(self) -> str:
        """Lower-case name as bpftool prints it, or the number."""
        known = {kind.value: kind.name.lower() for kind in MapType}
        return known.get(self.type, str(self.type))


# attributes that carry a number (__uint) -> field of MapDef
_NUMBERS = {
    "type": "type",
    "key_size": "key_size",
    "value_size": "value_size",
    "max_entries": "max_entries",
    "map_flags": "flags",
    "numa_node": "numa_node",
}
# attributes that carry a type (__type) -> fields of MapDef for its size and its id
_TYPES = {"key": ("key_size", "key_type_id"), "value": ("value_size", "value_type_id")}
_PIN = {0: False, 1: True}


def read_maps(raw: RawElf, btf: Btf) -> tuple[MapDef, ...]:
    """All maps of the object. Raises ObjectError for a definition that libbpf would refuse."""
    section = next((s for s in raw.sections if s.name == SECTION), None)
    if section is None:
        return ()
    types = btf.find(Kind.DATASEC, SECTION)
    if types is None:
        raise ObjectError(f"{raw.path}: section .maps has no type information", fix="add -g")
    symbols = {s.name: s for s in raw.symbols if s.section == section.index}
    relocations = sorted(raw.relocations.get(section.index, ()), key=lambda r: r.offset)
    maps = []
    for member in types.members:
        variable = btf.type(member.type_id)
        where = f"{raw.path}: map {variable.name!r}"
        if variable.kind is not Kind.VAR or variable.name not in symbols:
            raise ObjectError(f"{where} has no symbol")
        if variable.linkage != "global":
            raise ObjectError(f"{where}: unsupported map linkage {variable.linkage}")
        symbol = symbols[variable.name]
        if symbol.offset + symbol.size_bytes > len(section.data):
            raise ObjectError(f"{where}: runs out of section .maps")
        made = _read(variable, symbol, btf, where)
        maps.append(_with_values(made, variable, symbol, relocations, raw, btf, where))
    arenas = [m.name for m in maps if m.type == MapType.ARENA]
    if len(arenas) > 1:
        raise ObjectError(f"{raw.path}: only one arena is supported, there are {len(arenas)}")
    return tuple(sorted(maps, key=lambda m: m.offset))


def _read(variable: Type, symbol: Symbol, btf: Btf, where: str) -> MapDef:
    definition = btf.resolve(variable.type_id)
    if definition.kind is not Kind.STRUCT:
        raise ObjectError(f"{where}: definition is not a struct", fix="use the __uint macros")
    if definition.size_bytes > symbol.size_bytes:
        raise ObjectError(f"{where}: invalid def size")
    return MapDef(name=variable.name, offset=symbol.offset, **_attributes(definition, btf, where))


def _attributes(definition: Type, btf: Btf, where: str, *, inner: bool = False) -> dict[str, Any]:
    """Fields of MapDef that the members of a definition struct set."""
    found: dict[str, Any] = {}
    for place, member in enumerate(definition.members):
        if member.name in _NUMBERS:
            _set(found, _NUMBERS[member.name], _number(member, btf, where), where)
        elif member.name in _TYPES:
            size, type_id = _TYPES[member.name]
            pointee = _pointee(member, btf, where)
            _set(found, size, btf.size_of(pointee.id), where)
            found[type_id] = pointee.id
        elif member.name == "values":
            if place != len(definition.members) - 1:
                raise ObjectError(f"{where}: 'values' member should be last")
            found |= _slots(member, found, btf, where, inner=inner)
        elif member.name == "pinning":
            found["pinned"] = _pinned(member, btf, where, inner=inner)
        elif member.name == "map_extra":
            found["map_extra"] = _long(member, btf, where)
        else:
            raise ObjectError(f"{where}: unknown field {member.name!r}")
    if not found.get("type"):
        raise ObjectError(f"{where}: has no type", fix="add __uint(type, BPF_MAP_TYPE_...)")
    if found["type"] in _RINGBUFS:
        found["max_entries"] = _ring_size(found.get("max_entries", 0))
    return found


def _set(found: dict[str, Any], name: str, value: int, where: str) -> None:
    """Sizes may be given twice (key and key_size), but not differently."""
    if name in ("key_size", "value_size") and found.get(name) not in (None, 0, value):
        what = name.replace("_", " ")
        raise ObjectError(f"{where}: conflicting {what} {found[name]} != {value}")
    found[name] = value


def _pinned(member: Member, btf: Btf, where: str, *, inner: bool) -> bool:
    if inner:
        raise ObjectError(f"{where}: inner def can't be pinned")
    value = _number(member, btf, where)
    if value not in _PIN:
        raise ObjectError(f"{where}: invalid pinning value {value}")
    return _PIN[value]


def _ring_size(size_bytes: int) -> int:
    """adjust_ringbuf_sz(): the next power of two of pages; libbpf passes on what is none."""
    pages = -(-size_bytes // _PAGE_BYTES)
    rounded = _PAGE_BYTES << max(0, (pages - 1).bit_length()) if size_bytes else 0
    return rounded if rounded <= _U32 else size_bytes


def _pointee(member: Member, btf: Btf, where: str) -> Type:
    pointer = btf.resolve(member.type_id)
    if pointer.kind is not Kind.PTR:
        raise ObjectError(f"{where}: attribute {member.name!r} is not a pointer")
    return btf.type(pointer.type_id)


def _number(member: Member, btf: Btf, where: str) -> int:
    """__uint(name, N) is `int (*name)[N]`."""
    array = _pointee(member, btf, where)
    if array.kind is not Kind.ARRAY:
        raise ObjectError(f"{where}: attribute {member.name!r} is not made by __uint")
    return array.count


def _long(member: Member, btf: Btf, where: str) -> int:
    """__ulong(name, N) is an enum with one value; __uint will do, too."""
    found = btf.resolve(member.type_id)
    if found.kind is Kind.PTR:
        return _number(member, btf, where)
    if found.kind not in (Kind.ENUM, Kind.ENUM64) or len(found.values) != 1:
        raise ObjectError(f"{where}: attribute {member.name!r} is not made by __ulong")
    return found.values[0].value & 0xFFFF_FFFF_FFFF_FFFF


def _slots(
    member: Member, found: dict[str, Any], btf: Btf, where: str, *, inner: bool
) -> dict[str, Any]:
    """__array(values, T) is `T *values[]`: a program's type, or the definition of inner maps."""
    if inner:
        raise ObjectError(f"{where}: multi-level inner maps not supported")
    of_maps = found.get("type") in MAPS_OF_MAPS
    if not of_maps and found.get("type") != MapType.PROG_ARRAY:
        raise ObjectError(f"{where}: should be map-in-map or prog-array")
    _set(found, "value_size", 4, where)
    array = btf.type(member.type_id)
    if array.kind is not Kind.ARRAY or array.count:
        raise ObjectError(f"{where}: attribute 'values' is not made by __array")
    pointer = btf.resolve(array.type_id)
    target = btf.resolve(pointer.type_id) if pointer.kind is Kind.PTR else pointer
    wanted = Kind.STRUCT if of_maps else Kind.FUNC_PROTO
    if target.kind is not wanted:
        raise ObjectError(
            f"{where}: values are of unexpected kind {target.kind.name.lower()},"
            f" not {wanted.name.lower()}"
        )
    if not of_maps:
        return {}
    name = where.rpartition("map ")[2].strip("'") + ".inner"
    return {"inner": MapDef(name=name, **_attributes(target, btf, where + ".inner", inner=True))}


def _with_values(
    made: MapDef,
    variable: Type,
    symbol: Symbol,
    relocations: list[Relocation],
    raw: RawElf,
    btf: Btf,
    where: str,
) -> MapDef:
    """Fill in the initial content. The array has no length in BTF: only the symbol's size tells."""
    start, end = (
        bisect.bisect_left(relocations, at, key=lambda r: r.offset)
        for at in (symbol.offset, symbol.offset + symbol.size_bytes)
    )
    found = relocations[start:end]
    if not found:
        return made
    slots = btf.resolve(variable.type_id).members[-1]
    start = symbol.offset + slots.offset // 8
    if slots.name != "values":
        raise ObjectError(f"{where}: has initial values, but no member 'values'")
    values = tuple(_initial(made, relocation, start, raw, where) for relocation in found)
    if made.type == MapType.HASH_OF_MAPS and made.key_size != 4:
        raise ObjectError(f"{where}: hash-of-maps should have key size 4")
    return dataclasses.replace(made, values=values)


def _initial(
    made: MapDef, relocation: Relocation, start: int, raw: RawElf, where: str
) -> tuple[int, str]:
    place, target = relocation.offset - start, relocation.symbol
    if place < 0 or place % 8:
        raise ObjectError(f"{where}: byte {place} of its values is not where a value starts")
    inside = 0 < target.section < len(raw.sections)
    section = raw.sections[target.section] if inside else None
    if made.type in MAPS_OF_MAPS:
        if section is None or section.name != SECTION:
            raise ObjectError(f"{where}: {target.name!r} isn't a BTF-defined map")
    elif section is None or not section.executable or section.name == ".text":
        raise ObjectError(f"{where}: {target.name!r} isn't an entry-point program")
    return place // 8, target.name
