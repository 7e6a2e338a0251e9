# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A linked program with all that a compiled object declares around it, as assembler text has it.

Owns which of the object's types a kernel looks at: those of maps, of globals that it looks after,
of functions' arguments and of what bpf_obj_new() makes. The rest of the object's BTF is left out.
"""

from dataclasses import dataclass, field, replace

from harness.bpf.btf import COMPOSITES, ENUMS, MODIFIERS, Btf, Kind, Type
from harness.bpf.btf import Member as BtfMember
from harness.bpf.declared import Declarations, Extern, Globals, Map, Member, Prototype, Struct, key
from harness.bpf.elf import Function, Object
from harness.bpf.environment import NOWHERE, Environment
from harness.bpf.isa import INSN_BYTES
from harness.bpf.link import KCONFIG, link
from harness.bpf.mapdef import MapDef, MapType
from harness.bpf.program import Program, Ref, RefKind
from harness.errors import UsageError

_CALLBACK = "exception_callback:"
_TYPE_ID_LOCAL = 6
# a struct with more members is the kernel's own, and no verifier looks into our copy of it
_MOST_MEMBERS = 32
# context of a kprobe: a typedef, and known by its name
_KNOWN_BY_NAME = frozenset({"bpf_user_pt_regs_t"})
_FIX = "minimise it in C"
_MAP_TYPES = frozenset(MapType)


@dataclass(frozen=True, slots=True)
class Unit:
    """A program and its surroundings: what one assembler text holds."""

    program: Program
    declared: Declarations


def unit_of(obj: Object, name: str, environment: Environment = NOWHERE) -> Unit:
    """What the object has of one program, relocated for a machine.

    Raises ObjectError where it does not link, UsageError for what assembler text cannot say.
    """
    try:
        return _unit_of(obj, name, environment)
    except RecursionError:
        raise UsageError(f"{name}: a type of the object contains itself", fix=_FIX) from None


def _unit_of(obj: Object, name: str, environment: Environment) -> Unit:
    section = obj.program(name).section.lstrip("?")
    if section.startswith("struct_ops"):
        raise UsageError(f"{name}: a struct_ops program needs its struct_ops map", fix=_FIX)
    linked = _with_linkage(link(_linkable(obj, name), name, environment), obj)
    refs, functions = dict(linked.refs), _functions(obj, linked)
    types = _Types(obj.btf)
    for pc, type_id in _local_types(obj, linked, functions):
        refs[pc] = Ref(RefKind.TYPE, types.whole(type_id))
    sections = _sections(obj, linked, types)
    if KCONFIG in {ref.name for ref in refs.values()}:
        # constant content of a map that nobody can change: no verifier tells one from the other
        data = Globals(f".rodata{KCONFIG}", linked.kconfig or bytes(8))
        sections[data.name] = data
        refs = {pc: replace(ref, name=data.name) if ref.name == KCONFIG else ref
                for pc, ref in refs.items()}  # fmt: skip
    maps = {m.name: _map(m, types) for m in obj.maps}
    inner = {m.inner.name: _map(m.inner, types) for m in obj.maps if m.inner}
    prototypes = {f.name: _prototype(obj, found, types)
                  for f, found in zip(linked.functions, functions, strict=True)}  # fmt: skip
    tags = tuple(t for t in obj.program(name).tags if t.startswith(_CALLBACK))
    if linked.exception_callback is not None and len(tags) == 1:
        tags = ()  # what Program.exception_callback says
    prototypes[name] = replace(prototypes[name], tags=tags)
    externs = {e.name.partition("___")[0]: Extern(e.name.partition("___")[0], types.text(e.type_id),
                                                  e.weak)
               for e in obj.externs if e.section == ".ksyms"}  # fmt: skip
    declared = Declarations(
        obj.license, types.structs(), maps, inner, sections, externs, prototypes
    )
    return Unit(replace(linked, section=section, refs=refs), declared)


def _linkable(obj: Object, name: str) -> Object:
    """The object without tags of exception callbacks that libbpf refuses; they are kept as text.

    A callback that is not global is one for the time of linking.
    """
    known = {f.name for f in obj.functions}
    named = obj.program(name).exception_callbacks

    def plain(function: Function) -> Function:
        names = function.exception_callbacks
        good = function.name == name and len(names) == 1 and names[0] in known
        tags = tuple(t for t in function.tags if good or not t.startswith(_CALLBACK))
        linkage = "global" if function.name in named else function.linkage
        return replace(function, tags=tags, linkage=linkage)

    return replace(
        obj,
        programs=tuple(map(plain, obj.programs)),
        functions=tuple(map(plain, obj.functions)),
    )


def _with_linkage(linked: Program, obj: Object) -> Program:
    known = {f.name: f.linkage for f in (*obj.functions, *obj.programs)}
    functions = tuple(replace(f, linkage=known[f.name]) for f in linked.functions)
    return replace(linked, functions=functions)


def _functions(obj: Object, linked: Program) -> list[Function]:
    """The object's own record of each linked function."""
    names = [f.name for f in linked.functions]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"two functions are named {twice!r}", fix="rename one of them")
    known = {f.name: f for f in (*obj.functions, *obj.programs)}
    return [known[name] for name in names]


def _local_types(obj: Object, linked: Program, functions: list[Function]) -> list[tuple[int, int]]:
    """Instructions that hold the number of one of the object's types: (index, that number)."""
    found = []
    for here, function in zip(linked.functions, functions, strict=True):
        for offset, relocation in obj.ext.core.get(function.section, {}).items():
            pc = here.start + (offset - function.offset) // INSN_BYTES
            if relocation.kind == _TYPE_ID_LOCAL and here.start <= pc < here.end:
                found.append((pc, relocation.type_id))
    return found


def _sections(obj: Object, linked: Program, types: "_Types") -> dict[str, Globals]:
    used = {r.name for r in linked.refs.values() if r.kind is RefKind.GLOBAL}
    if obj.arena is not None and obj.arena.name in used:
        raise UsageError(f"{linked.name}: it uses global variables of an arena", fix=_FIX)
    tags: dict[int, list[str]] = {}
    for record in obj.btf.of_kind(Kind.DECL_TAG):
        tags.setdefault(record.type_id, []).append(record.name)
    ids = {v.name: v.id for v in obj.btf.of_kind(Kind.VAR)}
    found = {}
    for section in obj.sections:
        if section.name in used:
            variables = tuple(
                Member(v.offset, types.text(v.type_id), v.name, tuple(tags.get(ids[v.name], ())))
                for v in section.variables
            )
            found[section.name] = Globals(section.name, section.data, variables)
    return found


def _map(each: MapDef, types: "_Types") -> Map:
    if each.type == MapType.STRUCT_OPS:
        return Map(each.name, each.type)
    if each.type not in _MAP_TYPES:
        raise UsageError(f"map {each.name}: no map type {each.type} is known", fix=_FIX)
    ring = each.type in (MapType.RINGBUF, MapType.USER_RINGBUF)
    return Map(
        each.name,
        each.type,
        "" if ring else _content(each.key_type_id, each.key_size, types),
        "" if ring or each.inner else _content(each.value_type_id, each.value_size, types),
        each.max_entries,
        each.flags,
        each.map_extra,
        each.inner.name if each.inner else "",
    )


def _content(type_id: int, size: int, types: "_Types") -> str:
    return types.text(type_id) if type_id else str(size or "")


def _prototype(obj: Object, function: Function, types: "_Types") -> Prototype:
    type_id = obj.ext.functions.get(function.section, {}).get(function.offset, 0)
    records = [obj.btf.type(type_id)] if type_id else []
    records += [t for t in obj.btf.of_kind(Kind.FUNC) if t.name == function.name]
    if not records:
        return Prototype("int()")
    found = records[0]
    arguments = tuple(
        (tag.component, tag.name)
        for tag in obj.btf.of_kind(Kind.DECL_TAG)
        if tag.type_id == found.id and tag.component >= 0
    )
    text = types.text(found.type_id, deep=function.linkage == "global")
    # other tags are for loaders and tests
    tags = tuple(t for t in function.tags if t.startswith(_CALLBACK) and not function.is_program)
    return Prototype(text, tags, arguments)


@dataclass(slots=True)
class _Types:
    """Types as text; remembers the structs that were met whole."""

    btf: Btf
    # id -> name, of structs that are declared with their members
    _names: dict[int, str] = field(default_factory=dict)
    _made: dict[str, Struct] = field(default_factory=dict)

    def structs(self) -> dict[str, Struct]:
        """Everything that has to be declared, in the order in which it is complete."""
        return dict(self._made)

    def whole(self, type_id: int) -> str:
        """A type whose members count."""
        return self.text(self.btf.resolve(type_id).id)

    def text(self, type_id: int, *, deep: bool = False, pointed: bool = False) -> str:
        """The type in words. `deep`: what it points to matters; `pointed`: it is pointed to."""
        found = self.btf.type(type_id)
        if found.kind is Kind.TYPEDEF and found.name in _KNOWN_BY_NAME:
            return f"typedef {found.name}"
        if found.kind is Kind.TYPE_TAG:
            inside = self.text(found.type_id, deep=True, pointed=pointed)
            return f"{inside} __{found.name}"
        if found.kind in MODIFIERS or found.kind is Kind.FUNC:
            return self.text(found.type_id, deep=deep, pointed=pointed)
        if found.kind in COMPOSITES or found.kind is Kind.FWD:
            return self._composite(found, look=deep or not pointed)
        return self._plain(found, deep=deep, pointed=pointed)

    def _plain(self, found: Type, *, deep: bool, pointed: bool) -> str:
        if found.kind is Kind.PTR:
            return self.text(found.type_id, deep=deep, pointed=True) + " *"
        if found.kind is Kind.ARRAY:
            return self.text(found.type_id, deep=deep, pointed=pointed) + f"[{found.count}]"
        if found.kind is Kind.FUNC_PROTO:
            arguments = (self.text(m.type_id, deep=deep, pointed=pointed) for m in found.members)
            returns = self.text(found.type_id, deep=deep, pointed=True)
            return f"{returns}({', '.join(arguments)})"
        if found.kind in ENUMS:
            named = found.name and found.size_bytes == 4
            return f"enum {found.name}" if named else _number(found.size_bytes, signed=False)
        if found.kind is Kind.INT:
            return _integer(found)
        return "void" if found.kind is Kind.VOID else _number(found.size_bytes, signed=False)

    def _composite(self, found: Type, *, look: bool) -> str:
        kind = "union" if found.kind is Kind.UNION else "struct"
        small = len(found.members) <= _MOST_MEMBERS or not found.name
        if found.id in self._names:
            return key(kind, self._names[found.id])
        nothing = not found.size_bytes and not found.members
        if not look or not small or nothing or found.kind is Kind.FWD:
            return key(kind, found.name or "unnamed")
        name = found.name or f"unnamed_{found.id}"
        if name in self._names.values():
            name = f"{name}_{found.id}"
        self._names[found.id] = name
        self._made[key(kind, name)] = Struct(kind, name, found.size_bytes)
        members = tuple(self._member(found, i, m) for i, m in enumerate(found.members)
                        if not m.bit_size)  # fmt: skip
        self._made[key(kind, name)] = Struct(
            kind, name, found.size_bytes, members, self._tags(found.id, -1)
        )
        return key(kind, name)

    def _member(self, of: Type, index: int, member: BtfMember) -> Member:
        pointed = self.btf.resolve(self.btf.resolve(member.type_id).type_id)
        text = "void *" if pointed.kind is Kind.FUNC_PROTO else self.text(member.type_id)
        return Member(member.offset // 8, text, member.name, self._tags(of.id, index))

    def _tags(self, type_id: int, component: int) -> tuple[str, ...]:
        found = []
        for tag in self.btf.of_kind(Kind.DECL_TAG):
            if tag.type_id == type_id and tag.component == component:
                found.append(tag.name)
                if tag.name.startswith("contains:"):
                    self._contained(tag.name.split(":")[1])
        return tuple(found)

    def _contained(self, name: str) -> None:
        inside = self.btf.find(Kind.STRUCT, name)
        if inside is not None:
            self._composite(inside, look=True)


def _integer(found: Type) -> str:
    if found.encoding & 4:
        return "bool"
    if found.name == "char":
        return "char"
    if found.size_bytes == 4 and found.signed:
        return "int"
    return _number(found.size_bytes, signed=found.signed)


def _number(size_bytes: int, *, signed: bool) -> str:
    sign = "s" if signed else "u"
    if size_bytes in (1, 2, 4, 8):
        return f"{sign}{size_bytes * 8}"
    return f"u8[{size_bytes}]"
