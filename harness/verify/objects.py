# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Objects of the program's own types (bpf_obj_new): their members, loads and stores in them.

Source: btf_struct_access(), btf_struct_walk() and btf_parse_graph_root() in kernel/bpf/btf.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness.bpf.btf import COMPOSITES, Btf, Kind, Type
from harness.bpf.special import spans
from harness.verify import registers as r
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar

if TYPE_CHECKING:
    from harness.verify.walk import Walk

_CONTAINS: Final = "contains:"
_MAX_DEPTH: Final = 8


class Root(NamedTuple):
    """What a list head or a tree root holds: objects of a type, by a node at an offset."""

    type_id: int
    node_offset: int


def special(walk: Walk, reg: Reg) -> tuple[tuple[str, int, int], ...]:
    """Members that the kernel looks after, of what a register points to."""
    if reg.type == r.MAP_VALUE:
        found: tuple[tuple[str, int, int], ...] = reg.what.special
        return found
    if reg.type == r.BTF_ID and reg.flags & r.ALLOC:
        return spans(walk.subject.obj.btf, reg.what)
    return ()


def root_at(walk: Walk, reg: Reg) -> Root | None:
    """The list head or tree root that a register points to."""
    btf, at = walk.subject.obj.btf, reg.off
    if reg.type == r.BTF_ID:
        return _root(btf, btf.type(reg.what), at)
    view = reg.what
    if not view.is_section:
        return _root(btf, btf.type(view.value_type_id), at) if view.value_type_id else None
    sections = walk.subject.obj.sections
    found = next((s for s in sections if s.name == view.name), None)
    for variable in found.variables if found is not None else ():
        if not variable.offset <= at < variable.offset + variable.size_bytes:
            continue
        record = btf.find(Kind.VAR, variable.name)
        name = _tag(btf, record.id, -1) if record is not None else ""
        if name and at == variable.offset:
            return _named(btf, name)
        return _root(btf, btf.type(variable.type_id), at - variable.offset)
    return None


def _root(btf: Btf, of: Type, at: int) -> Root | None:
    """Down the members to the one that starts at `at` and says what it contains."""
    for _ in range(_MAX_DEPTH):
        of, at = _element(btf, of, at)
        if of.kind not in COMPOSITES:
            return None
        place = next(
            (
                i
                for i, m in enumerate(of.members)
                if m.offset // 8 <= at < m.offset // 8 + btf.size_of(m.type_id)
            ),
            None,
        )
        if place is None:
            return None
        member = of.members[place]
        name = _tag(btf, of.id, place)
        if name and at == member.offset // 8:
            return _named(btf, name)
        at, of = at - member.offset // 8, btf.type(member.type_id)
    return None


def _element(btf: Btf, of: Type, at: int) -> tuple[Type, int]:
    """What lies at `at`, and the offset in it: an array's element, anything else as it is."""
    of = btf.resolve(of.id)
    for _ in range(_MAX_DEPTH):
        if of.kind is not Kind.ARRAY:
            break
        size = btf.size_of(of.type_id)
        at, of = at % size if size else at, btf.resolve(of.type_id)
    return of, at


def _tag(btf: Btf, type_id: int, component: int) -> str:
    for tag in btf.of_kind(Kind.DECL_TAG):
        if tag.type_id == type_id and tag.component == component and tag.name.startswith(_CONTAINS):
            return tag.name.removeprefix(_CONTAINS)
    return ""


def _named(btf: Btf, text: str) -> Root | None:
    name, _, field = text.partition(":")
    of = btf.find(Kind.STRUCT, name)
    if of is None:
        return None
    member = next((m for m in of.members if m.name == field), None)
    return Root(of.id, member.offset // 8) if member is not None else None


# ---- objects in maps ----------------------------------------------------------------------------


def kept_at(walk: Walk, reg: Reg) -> int:
    """Type of the object that the kptr at `reg` may hold: one of the program's own."""
    if reg.num is not None:
        walk.unknown("a kptr at a variable offset")
    if reg.what.special_at(reg.off) != "kptr":
        walk.reject(Category.CALL_TYPE, f"off={reg.off} doesn't point to kptr", errno=22)
    btf = walk.subject.obj.btf
    found = _member_at(btf, btf.type(reg.what.value_type_id), reg.off)
    if found is None or found.kind is not Kind.PTR:
        walk.unknown("what a kptr may hold")
    tag = btf.type(found.type_id)
    target = btf.resolve(found.type_id)
    if tag.name != "kptr" or target.kind is not Kind.STRUCT:
        walk.unknown("what a kptr may hold")
    return target.id


def check_kept(walk: Walk, number: int, reg: Reg, wanted: int) -> None:
    """The object that goes into a kptr: of the right type, and whole."""
    if reg.const == 0:
        return
    if reg.what != wanted:
        walk.unknown("a kptr and an object of different types")
    if reg.off or reg.num is not None:
        walk.unknown(f"an object in R{number} by its middle")


def _member_at(btf: Btf, of: Type, at: int) -> Type | None:
    for _ in range(_MAX_DEPTH):
        of, at = _element(btf, of, at)
        if of.kind is not Kind.STRUCT:
            return of if not at else None
        inside = [m for m in of.members if 0 <= at - m.offset // 8 < btf.size_of(m.type_id)]
        if len(inside) != 1:
            return None
        at, of = at - inside[0].offset // 8, btf.type(inside[0].type_id)
    return None


# ---- loads and stores ---------------------------------------------------------------------------


def access(walk: Walk, base: Reg, regno: int, off: int, size: int, *, write: bool) -> Reg:
    """A load or store in an object; a load gives a number, whatever the member is."""
    if not base.flags & r.ALLOC:
        walk.unknown(f"an access through R{regno}, a pointer to a kernel's type")
    if base.flags & (r.UNTRUSTED | r.RCU | r.PERCPU) and write:
        walk.unknown("a store through a pointer that RCU or nobody guards")
    if base.flags & r.UNTRUSTED:
        walk.unknown("a load through a pointer that nothing guards any more")
    if base.num is not None:
        walk.reject(
            Category.REGISTER_TYPE,
            f"R{regno} is ptr_{{{{.*}}}} invalid variable offset: off={off}",
            errno=13,
        )
    at = base.off + off
    btf = walk.subject.obj.btf
    of = btf.resolve(base.what)
    if at < 0:
        words = f"R{regno} is ptr_{of.name} invalid negative access: off={at}"
        walk.reject(Category.MEMORY, words, errno=13)
    for kind, start, length in special(walk, base):
        if at < start + length and start < at + size:
            if kind == "kptr":
                walk.unknown("a kptr in an object")
            walk.reject(Category.MEMORY, f"direct access to {kind} is disallowed", errno=13)
    if at + size > of.size_bytes:
        words = f"access beyond struct {of.name} at off {at} size {size}"
        walk.reject(Category.MEMORY, words, errno=13)
    _check_member(walk, btf, of, at, size)
    return scalar(walk.domain.unknown)


def _check_member(walk: Walk, btf: Btf, of: Type, at: int, size: int) -> None:
    """An access lies in one member that is no struct."""
    for _ in range(_MAX_DEPTH):
        of, at = _element(btf, of, at)
        if of.kind is not Kind.STRUCT:
            if of.kind is Kind.UNION or at or size > btf.size_of(of.id):
                walk.unknown("an access to a part of a member, or to several")
            return
        inside = [
            m
            for m in of.members
            if m.offset // 8 <= at < m.offset // 8 + max(btf.size_of(m.type_id), 1)
        ]
        if len(inside) != 1 or inside[0].bit_size:
            walk.unknown("an access to a bit field, or between members")
        at, of = at - inside[0].offset // 8, btf.type(inside[0].type_id)


def new(type_id: Any) -> Reg:
    """What bpf_obj_new() gives, before it is known not to be NULL."""
    return Reg(r.BTF_ID, what=type_id, flags=r.ALLOC | r.MAYBE_NULL)
