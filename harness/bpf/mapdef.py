# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Map definitions in BTF style (the .maps section), as libbpf reads them.

Owns the meaning of the attribute structs behind __uint, __type and __array. Does not create maps.
"""

import dataclasses
from dataclasses import dataclass
from enum import IntEnum

from harness.bpf.btf import Btf, Kind, Member, Type
from harness.bpf.rawelf import RawElf, Relocation, Symbol
from harness.errors import ObjectError

SECTION = ".maps"


class MapType(IntEnum):
    """enum bpf_map_type, the part that has names here."""

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
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    RINGBUF = 27
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    USER_RINGBUF = 31
    ARENA = 33


@dataclass(frozen=True, slots=True)
class MapDef:
    """One map as its definition says it."""

    name: str
    # enum bpf_map_type
    type: int
    key_size: int = 0
    value_size: int = 0
    max_entries: int = 0
    flags: int = 0
    # (index, name of the program or map that is put there at load)
    values: tuple[tuple[int, str], ...] = ()
    # what a map of maps holds
    inner: "MapDef | None" = None
    # of the definition in section .maps, bytes
    offset: int = 0

    @property
    def type_name(self) -> str:
        """Lower-case name as bpftool prints it, or the number."""
        known = {kind.value: kind.name.lower() for kind in MapType}
        return known.get(self.type, str(self.type))


# attributes that carry a number (__uint) -> field of MapDef; others are read and left out
_NUMBERS = {
    "type": "type",
    "key_size": "key_size",
    "value_size": "value_size",
    "max_entries": "max_entries",
    "map_flags": "flags",
}
_SIZED_BY_TYPE = {"key": "key_size", "value": "value_size"}
_IGNORED = frozenset({"pinning", "map_extra", "numa_node"})


def read_maps(raw: RawElf, btf: Btf) -> tuple[MapDef, ...]:
    """All maps of the object. Raises ObjectError for a definition that libbpf would refuse."""
    section = next((s for s in raw.sections if s.name == SECTION), None)
    types = btf.find(Kind.DATASEC, SECTION)
    if section is None:
        return ()
    if types is None:
        raise ObjectError(f"{raw.path}: section .maps has no type information", fix="add -g")
    symbols = {s.name: s for s in raw.symbols if s.section == section.index}
    relocations = raw.relocations.get(section.index, ())
    maps = []
    for member in types.members:
        variable = btf.type(member.type_id)
        if variable.name not in symbols:
            raise ObjectError(f"{raw.path}: map {variable.name!r} has no symbol")
        where = f"{raw.path}: map {variable.name!r}"
        maps.append(_read(variable, symbols[variable.name], relocations, btf, where))
    return tuple(maps)


def _read(
    variable: Type, symbol: Symbol, relocations: tuple[Relocation, ...], btf: Btf, where: str
) -> MapDef:
    definition = btf.resolve(variable.type_id)
    fields = _attributes(definition, btf, where)
    slots = next((m for m in definition.members if m.name == "values"), None)
    if slots is None:
        return MapDef(variable.name, offset=symbol.offset, **fields)  # type: ignore[arg-type]
    # the array has no length in BTF: its initialiser only shows in the symbol's size
    start, end = symbol.offset + slots.offset // 8, symbol.offset + symbol.size_bytes
    values = tuple(
        ((r.offset - start) // 8, r.symbol.name) for r in relocations if start <= r.offset < end
    )
    inner = _inner(slots, btf, where)
    made = MapDef(variable.name, offset=symbol.offset, **fields)  # type: ignore[arg-type]
    return dataclasses.replace(made, values=values, inner=inner)


def _attributes(definition: Type, btf: Btf, where: str) -> dict[str, int]:
    if definition.kind is not Kind.STRUCT:
        raise ObjectError(f"{where}: definition is not a struct", fix="use the __uint macros")
    fields: dict[str, int] = {}
    for member in definition.members:
        if member.name in _NUMBERS:
            fields[_NUMBERS[member.name]] = _number(member, btf, where)
        elif member.name in _SIZED_BY_TYPE:
            fields[_SIZED_BY_TYPE[member.name]] = btf.size_of(_pointee(member, btf, where).id)
        elif member.name not in _IGNORED and member.name != "values":
            raise ObjectError(f"{where}: unknown attribute {member.name!r}")
    if "type" not in fields:
        raise ObjectError(f"{where}: has no type", fix="add __uint(type, BPF_MAP_TYPE_...)")
    return fields


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


def _inner(slots: Member, btf: Btf, where: str) -> MapDef | None:
    """__array(values, T) is `T *values[]`; for maps of maps T is a definition struct."""
    array = btf.resolve(slots.type_id)
    pointer = btf.resolve(array.type_id) if array.kind is Kind.ARRAY else array
    if pointer.kind is not Kind.PTR:
        raise ObjectError(f"{where}: attribute 'values' is not made by __array")
    target = btf.resolve(pointer.type_id)
    if target.kind is not Kind.STRUCT:
        return None
    return MapDef("", **_attributes(target, btf, where))  # type: ignore[arg-type]
