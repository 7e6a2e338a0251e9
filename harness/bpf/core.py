# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""CO-RE relocations: what an instruction becomes on a kernel with other types than the program's.

Owns the calculation (bpf_core_parse_spec, bpf_core_spec_match and bpf_core_calc_relo in
tools/lib/bpf/relo_core.c of libbpf 1.5). Instructions are harness.bpf.corepatch's business.
"""

import dataclasses
from dataclasses import dataclass
from enum import IntEnum

from harness.bpf.btf import COMPOSITES, ENUMS, Btf, Kind, Type, essential
from harness.bpf.btfext import CoreRelocation
from harness.bpf.corematch import Pair
from harness.errors import ObjectError

_MAX_SPEC = 64
_U32, _U64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


class Relo(IntEnum):
    """enum bpf_core_relo_kind."""

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12


# what can be answered without a kernel: its own type ids; offsets stay what they were compiled as
WITHOUT_KERNEL = frozenset({Relo.FIELD_BYTE_OFFSET, Relo.TYPE_ID_LOCAL})
_OF_TYPES = frozenset({
    Relo.TYPE_ID_LOCAL, Relo.TYPE_ID_TARGET, Relo.TYPE_EXISTS, Relo.TYPE_SIZE, Relo.TYPE_MATCHES
})  # fmt: skip
_OF_ENUMS = frozenset({Relo.ENUMVAL_EXISTS, Relo.ENUMVAL_VALUE})


@dataclass(frozen=True, slots=True)
class _Step:
    """One named member, element of an array, or enumerator on the way to a field."""

    type_id: int
    index: int
    # "" for an element of an array
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Spec:
    """A field, type or enumerator in one set of types."""

    btf: Btf
    root: int
    steps: tuple[_Step, ...] = ()
    bit_offset: int = 0


@dataclass(frozen=True, slots=True)
class Value:
    """What a relocation comes to in one set of types."""

    number: int = 0
    # of the field, for loads and stores; 0: does not apply
    size_bytes: int = 0
    type_id: int = 0
    # whether the compiler must have come to the same number
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What the linker needs to patch an instruction."""

    original: Value
    new: Value | None
    # a load or store whose width cannot be changed without changing what it means
    wrong_width: bool = False


def kind_of(relocation: CoreRelocation) -> Relo:
    """The kind. Raises ObjectError for one that libbpf 1.5 does not know."""
    try:
        return Relo(relocation.kind)
    except ValueError:
        raise ObjectError(f"unknown CO-RE relocation kind {relocation.kind}") from None


def describe(relocation: CoreRelocation, local: Btf) -> str:
    """For people: "field_exists of task_struct.mm"."""
    kind = kind_of(relocation)
    found = local.type(relocation.type_id)
    name = f"{found.kind.name.lower()} {found.name}" if found.kind in COMPOSITES else found.name
    steps = _parse(relocation, kind, local).steps
    path = "".join(f".{s.name}" if s.name else f"[{s.index}]" for s in steps[1:])
    if kind in _OF_ENUMS:
        path = f" {steps[0].name}"
    return f"{kind.name.lower()} of {name}{path}"


def resolve(relocation: CoreRelocation, local: Btf, target: Btf | None) -> Result:
    """Calculate a relocation.

    `target` is the kernel's types; None is allowed for TYPE_ID_LOCAL only. Raises ObjectError
    where libbpf refuses to load the object: a broken access string, candidates that disagree.
    """
    kind = kind_of(relocation)
    ours = _parse(relocation, kind, local)
    if kind is Relo.TYPE_ID_LOCAL:
        value = Value(relocation.type_id, certain=False)
        return Result(value, value)
    if target is None:
        raise ObjectError(f"{describe(relocation, local)}: no types of a kernel are given")
    if not local.type(relocation.type_id).name:
        raise ObjectError(f"CO-RE {kind.name.lower()}: anonymous types cannot be relocated")
    pair = Pair(local, target)
    found: tuple[Result, int] | None = None
    for candidate in pair.candidates(relocation.type_id):
        spec = _match(pair, kind, ours, candidate)
        if spec is None:
            continue
        result = _result(kind, ours, spec)
        if (
            found is not None
            and found != (result, spec.bit_offset)
            and _differ(found, result, spec)
        ):
            raise ObjectError(
                f"CO-RE {describe(relocation, local)}: the kernel has several, which disagree"
            )
        found = found or (result, spec.bit_offset)
    return found[0] if found else _result(kind, ours, None)


def _differ(found: tuple[Result, int], result: Result, spec: _Spec) -> bool:
    ours, theirs = found[0].new, result.new
    if found[1] != spec.bit_offset or (ours is None) != (theirs is None):
        return True
    return ours is not None and theirs is not None and ours.number != theirs.number


# ---- the program's side -------------------------------------------------------------------------


def _parse(relocation: CoreRelocation, kind: Relo, btf: Btf) -> _Spec:
    """bpf_core_parse_spec: the access string as a way through the types."""
    spec = _Spec(btf, relocation.type_id)
    if kind in _OF_TYPES:
        if relocation.access != "0":
            raise ObjectError(f"CO-RE: access string {relocation.access!r} of a type")
        return spec
    indexes = _indexes(relocation.access)
    root = btf.resolve(relocation.type_id)
    if kind in _OF_ENUMS:
        if root.kind not in ENUMS or len(indexes) > 1 or indexes[0] >= root.vlen:
            raise ObjectError(f"CO-RE: access string {relocation.access!r} of enum {root.name!r}")
        step = _Step(root.id, indexes[0], root.values[indexes[0]].name)
        return dataclasses.replace(spec, steps=(step,))
    steps, offset, type_id = [_Step(root.id, indexes[0])], _bits(btf, root.id) * indexes[0], root.id
    for index in indexes[1:]:
        inside = btf.resolve(type_id)
        if inside.kind in COMPOSITES and index < inside.vlen:
            member = inside.members[index]
            offset, type_id = offset + member.offset, member.type_id
            if member.name:
                steps.append(_Step(inside.id, index, member.name))
        elif inside.kind is Kind.ARRAY and _in_array(btf, steps[-1], inside, index):
            type_id = btf.resolve(inside.type_id).id
            offset += _bits(btf, type_id) * index
            steps.append(_Step(type_id, index))
        else:
            raise ObjectError(
                f"CO-RE: access string {relocation.access!r} leads nowhere in {root.name!r}"
            )
    return _Spec(btf, relocation.type_id, tuple(steps), offset & _U32)


def _indexes(access: str) -> list[int]:
    words = access.split(":")
    if not all(w.isascii() and w.isdigit() and len(w) <= 10 for w in words):
        raise ObjectError(f"CO-RE: broken access string {access[:80]!r}")
    if len(words) > _MAX_SPEC:
        raise ObjectError(f"CO-RE: access string of {len(words)} steps, {_MAX_SPEC} at most")
    return [int(word) for word in words]


def _bits(btf: Btf, type_id: int) -> int:
    return btf.size_of(type_id) * 8


def _in_array(btf: Btf, before: _Step, inside: Type, index: int) -> bool:
    """In its bounds; a flexible array, last in its struct, has none."""
    last = bool(before.name) and before.index == btf.type(before.type_id).vlen - 1
    return index < inside.count or (last and not inside.count)


# ---- the kernel's side --------------------------------------------------------------------------


def _match(pair: Pair, kind: Relo, ours: _Spec, candidate: int) -> _Spec | None:
    """bpf_core_spec_match: the same way through one candidate, or None."""
    target = pair.target
    if kind in _OF_TYPES:
        relation = pair.matches if kind is Relo.TYPE_MATCHES else pair.compatible
        return _Spec(target, candidate) if relation(ours.root, candidate) else None
    if kind in _OF_ENUMS:
        return _match_enum(target, ours, candidate)
    steps: list[_Step] = []
    offset, depth, type_id = 0, 0, candidate
    for place, step in enumerate(ours.steps):
        inside = target.resolve(type_id)
        if step.name:
            way = _find_member(pair, step, inside, _MAX_SPEC - depth)
            if way is None:
                return None
            found, type_id, bits, deeper = way
            offset, depth = offset + bits, depth + deeper
            steps.append(found)
            continue
        if place:
            if inside.kind is not Kind.ARRAY or not _in_array(
                target, steps[-1], inside, step.index
            ):
                return None
            type_id = inside.type_id
        type_id = target.resolve(type_id).id
        offset, depth = offset + _bits(target, type_id) * step.index, depth + 1
        if depth > _MAX_SPEC:
            raise ObjectError("CO-RE: structs and arrays nest too deep")
        steps.append(_Step(type_id, step.index))
    return _Spec(target, candidate, tuple(steps), offset & _U32)


def _match_enum(target: Btf, ours: _Spec, candidate: int) -> _Spec | None:
    found, name = target.resolve(candidate), essential(ours.steps[0].name)
    for index, each in enumerate(found.values):
        if essential(each.name) == name:
            return _Spec(target, candidate, (_Step(found.id, index, each.name),))
    return None


def _find_member(
    pair: Pair, step: _Step, inside: Type, room: int
) -> tuple[_Step, int, int, int] | None:
    """The member of this name, in anonymous structs and unions too.

    Returns (step, its type id, bits from the start of `inside`, levels), or None where there is
    none, or one whose type does not fit.
    """
    if inside.kind not in COMPOSITES:
        return None
    if room <= 0:
        raise ObjectError("CO-RE: structs and arrays nest too deep")
    ours = pair.local.type(step.type_id).members[step.index]
    for index, member in enumerate(inside.members):
        pair.step()
        if not member.name:
            deeper = pair.target.resolve(member.type_id)
            way = _find_member(pair, step, deeper, room - 1)
            if way is not None:
                found, type_id, bits, levels = way
                return found, type_id, bits + member.offset, levels + 1
        elif member.name == step.name:
            if not pair.fields_compatible(ours.type_id, member.type_id):
                return None
            return _Step(inside.id, index, member.name), member.type_id, member.offset, 1
    return None


# ---- numbers ------------------------------------------------------------------------------------


def _result(kind: Relo, ours: _Spec, theirs: _Spec | None) -> Result:
    original = _value(kind, ours)
    assert original is not None  # only a missing target has no value
    new = _value(kind, theirs)
    if new is None or original.size_bytes == new.size_bytes or theirs is None:
        return Result(original, new)
    old_type, new_type = ours.btf.type(original.type_id), theirs.btf.type(new.type_id)
    pointers = old_type.kind is Kind.PTR and new_type.kind is Kind.PTR
    integers = old_type.kind is Kind.INT and new_type.kind is Kind.INT
    # libbpf compares the whole encoding with "signed": a signed char passes
    unsigned = integers and old_type.encoding != 1 and new_type.encoding != 1
    return Result(original, new, wrong_width=not (pointers or unsigned))


def _value(kind: Relo, spec: _Spec | None) -> Value | None:
    """The number in one set of types; None: the instruction has to be poisoned."""
    if kind in (Relo.FIELD_EXISTS, Relo.ENUMVAL_EXISTS):
        return Value(int(spec is not None))
    if kind in _OF_TYPES:
        return _type_value(kind, spec)
    if spec is None:
        return None
    return _enum_value(spec) if kind is Relo.ENUMVAL_VALUE else _field_value(kind, spec)


def _type_value(kind: Relo, spec: _Spec | None) -> Value:
    if spec is None:
        return Value(0)
    if kind is Relo.TYPE_ID_TARGET:
        return Value(spec.root, certain=False)
    if kind is Relo.TYPE_SIZE:
        return Value(spec.btf.size_of(spec.root))
    return Value(1)


def _enum_value(spec: _Spec) -> Value:
    found = spec.btf.type(spec.steps[0].type_id)
    number = found.values[spec.steps[0].index].value
    if found.kind is Kind.ENUM and number >> 31 == 1:
        number -= 1 << 32  # struct btf_enum has a signed value, whatever its enum is
    return Value(number & _U64)


def _field_value(kind: Relo, spec: _Spec) -> Value:
    """bpf_core_calc_field_relo."""
    step, btf = spec.steps[-1], spec.btf
    if not step.name:
        size = btf.size_of(step.type_id)
        if kind is Relo.FIELD_BYTE_OFFSET:
            return Value(spec.bit_offset // 8, size, step.type_id)
        if kind is Relo.FIELD_BYTE_SIZE:
            return Value(size)
        raise ObjectError(f"CO-RE {kind.name.lower()} cannot be applied to an element of an array")
    member = btf.type(step.type_id).members[step.index]
    found = btf.resolve(member.type_id)
    size, bits = btf.size_of(found.id), member.bit_size
    certain = not bits
    at = spec.bit_offset // 8
    if bits:
        at, size = _container(spec.bit_offset, bits, found.size_bytes)
    else:
        bits = size * 8
    if kind is Relo.FIELD_BYTE_OFFSET:
        return Value(at, size, found.id) if certain else Value(at, certain=False)
    if kind is Relo.FIELD_BYTE_SIZE:
        return Value(size, certain=certain)
    if kind is Relo.FIELD_LSHIFT_U64:
        return Value((64 - (spec.bit_offset + bits - at * 8)) & _U32, certain=certain)
    if kind is Relo.FIELD_RSHIFT_U64:
        return Value((64 - bits) & _U32)
    signed = (found.kind in ENUMS and found.flag) or (found.kind is Kind.INT and found.signed)
    return Value(int(signed))


def _container(bit_offset: int, bits: int, size: int) -> tuple[int, int]:
    """(first byte, bytes) of the smallest aligned integer that holds a bit field."""
    if not size:
        raise ObjectError("CO-RE: a bit field of no size")
    at = bit_offset // 8 // size * size
    while bit_offset + bits - at * 8 > size * 8:
        if size >= 8:
            raise ObjectError("CO-RE: a bit field that no 64-bit load can read")
        size *= 2
        at = bit_offset // 8 // size * size
    return at, size
