# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps as the verifier sees them: sizes, what may be accessed directly, special members of values.

Sections of globals are arrays with one value, as libbpf makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from harness.bpf.mapdef import MapDef, MapType
from harness.bpf.program import RefKind
from harness.bpf.special import spans

if TYPE_CHECKING:
    from harness.bpf.elf import Object
    from harness.bpf.program import Program

# BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG
_READ_ONLY: Final = 1 << 7
# dev_map_init_map(): a look-up gives the kernel's own entry
_READ_ONLY_TYPES: Final = frozenset({MapType.DEVMAP, MapType.DEVMAP_HASH})
_WRITE_ONLY: Final = 1 << 8
# BPF_F_INNER_MAP: maps of other sizes may take its place
_INNER_MAP: Final = 1 << 12
_CONSTANT: Final = (".rodata", ".kconfig")


# bytes of a map's name, less the zero at its end
_LONGEST_NAME: Final = 15


@dataclass(frozen=True, eq=False)
class MapView:
    """One map; two are the same only when they are the same object."""

    name: str
    # enum bpf_map_type
    type: int
    key_size: int
    value_size: int
    max_entries: int
    # (kind, offset, bytes) of members that the kernel looks after
    special: tuple[tuple[str, int, int], ...] = ()
    inner: MapView | None = None
    read_only: bool = False
    write_only: bool = False
    # of an inner map: others of the kind may have another number of entries
    varies: bool = False
    # content that never changes, of a frozen section
    content: bytes | None = None
    value_type_id: int = 0
    is_section: bool = False
    # the object's file without what follows the first dot
    of: str = ""

    @property
    def kernel_name(self) -> str:
        """The name that the kernel knows it by: libbpf's internal_map_name()."""
        if not self.is_section:
            return self.name[:_LONGEST_NAME]
        own = self.name.count(".") > 1
        kept = 0 if own else _LONGEST_NAME - max(7, len(self.name))
        return f"{self.of[: max(kept, 0)]}{self.name}"[:_LONGEST_NAME]

    def special_at(self, offset: int) -> str:
        """Kind of the special member that starts at a byte of the value, or ""."""
        return next((kind for kind, start, _ in self.special if start == offset), "")


def map_views(obj: Object, program: Program) -> dict[str, MapView]:
    """All that the program refers to."""
    views = {m.name: _view(obj, m) for m in obj.maps}
    for ref in program.refs.values():
        if ref.kind is RefKind.GLOBAL and ref.name not in views:
            views[ref.name] = _section(obj, program, ref.name)
    return views


def _view(obj: Object, m: MapDef) -> MapView:
    return MapView(
        name=m.name,
        type=m.type,
        key_size=m.key_size,
        value_size=m.value_size,
        max_entries=m.max_entries,
        special=spans(obj.btf, m.value_type_id),
        inner=_view(obj, m.inner) if m.inner is not None else None,
        read_only=bool(m.flags & _READ_ONLY) or m.type in _READ_ONLY_TYPES,
        write_only=bool(m.flags & _WRITE_ONLY),
        varies=bool(m.flags & _INNER_MAP),
        value_type_id=m.value_type_id,
    )


def _section(obj: Object, program: Program, name: str) -> MapView:
    from harness.bpf.btf import Kind  # noqa: PLC0415  # data

    found = next((s for s in (*obj.sections, obj.arena) if s is not None and s.name == name), None)
    constant = name.startswith(_CONSTANT)
    data = program.kconfig if name == ".kconfig" else b"" if found is None else bytes(found.data)
    if found is not None and found is obj.arena:
        return MapView(name, MapType.ARENA, 0, 0, 0, is_section=True)
    types = obj.btf.find(Kind.DATASEC, name)
    special = tuple(
        (kind, variable.offset + offset, size)
        for variable in (() if found is None or constant else found.variables)
        for kind, offset, size in spans(obj.btf, variable.type_id)
    )
    return MapView(
        name=name,
        type=MapType.ARRAY,
        key_size=4,
        value_size=len(data),
        max_entries=1,
        special=special,
        read_only=constant,
        content=data if constant else None,
        value_type_id=types.id if types is not None else 0,
        is_section=True,
        of=PurePath(obj.path).name.partition(".")[0],
    )
