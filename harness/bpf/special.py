# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Members of structs that the kernel looks after itself: locks, lists, trees, timers, kptrs.

Owns where they are in a type (btf_find_field() in kernel/bpf/btf.c) and which of their bytes mean
nothing outside of a kernel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.bpf.btf import Btf, Kind, Type
from harness.errors import ObjectError

_MAX_DEPTH = 8
_MAX_ELEMENTS = 256
# name of the struct -> bytes
_SPECIAL = {
    "bpf_spin_lock": 4, "bpf_res_spin_lock": 4, "bpf_refcount": 4, "bpf_list_head": 16,
    "bpf_rb_root": 16, "bpf_list_node": 24, "bpf_rb_node": 32, "bpf_timer": 16, "bpf_wq": 16,
    "bpf_task_work": 8,
}  # fmt: skip
# hold addresses of the copy that a look-up made (check_and_init_map_value())
_ADDRESSES = frozenset({"bpf_list_head", "bpf_rb_root"})
_KPTR_TAGS = frozenset({"kptr", "percpu_kptr"})


@dataclass(frozen=True, slots=True)
class Field:
    """One such member."""

    # "bpf_list_node", ...; "kptr" for a referenced pointer
    kind: str
    # bytes from the start of the outermost type
    offset: int


def fields(btf: Btf, of: Type) -> tuple[Field, ...]:
    """Special members of a type, of the structs in it and of arrays of them. Raises ObjectError.

    Deeper nesting and longer arrays than any kernel takes are not looked into.
    """
    return tuple(_find(btf, btf.resolve(of.id), 0, 0))


def _find(btf: Btf, of: Type, base: int, depth: int) -> Iterator[Field]:
    if depth > _MAX_DEPTH:
        return
    if of.kind is Kind.STRUCT and of.name in _SPECIAL:
        yield Field(of.name, base)
    elif of.kind is Kind.STRUCT:
        for member in of.members:
            found = btf.resolve(member.type_id)
            yield from _find(btf, found, base + member.offset // 8, depth + 1)
    elif of.kind is Kind.ARRAY and of.count <= _MAX_ELEMENTS:
        element = btf.resolve(of.type_id)
        if element.kind in (Kind.STRUCT, Kind.PTR):
            size = btf.size_of(element.id)
            for index in range(of.count):
                yield from _find(btf, element, base + index * size, depth + 1)
    elif of.kind is Kind.PTR:
        tag = btf.type(of.type_id)
        if tag.kind is Kind.TYPE_TAG and tag.name in _KPTR_TAGS:
            yield Field("kptr", base)


def spans(btf: Btf, type_id: int) -> tuple[tuple[str, int, int], ...]:
    """Kind, offset and bytes of each special member of a map's value; none for an unknown type."""
    if not type_id:
        return ()
    try:
        found = fields(btf, btf.type(type_id))
    except ObjectError:
        return ()  # a type that nothing can be said about
    return tuple((field.kind, field.offset, _SPECIAL.get(field.kind, 8)) for field in found)


def without_addresses(btf: Btf, type_id: int, data: bytes) -> bytes:
    """A value as every oracle shows it: heads of lists and roots of trees zeroed."""
    if not type_id:
        return data
    try:
        found = [field for field in fields(btf, btf.type(type_id)) if field.kind in _ADDRESSES]
    except ObjectError:
        return data  # a type that nothing can be said about hides nothing
    shown = bytearray(data)
    for field in found:
        size = min(_SPECIAL[field.kind], max(len(shown) - field.offset, 0))
        shown[field.offset : field.offset + size] = bytes(size)
    return bytes(shown)
