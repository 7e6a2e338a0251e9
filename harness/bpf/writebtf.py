# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BTF and BTF.ext of an assembled program: its functions, lines, callback, maps and externs.

Owns which records an object needs and what of BTF.ext goes with its instructions
(Documentation/bpf/btf.rst). Functions that nobody declared return int; global ones take one u64,
as an exception callback does, others nothing that BTF speaks of.
"""

import struct

from harness.bpf.btf import Kind
from harness.bpf.declared import NOTHING, Declarations, Globals, Map, Prototype, size_of
from harness.bpf.program import LinkedFunction, Program, RefKind
from harness.bpf.typewriter import Strings, Types
from harness.errors import UsageError

_MAGIC, _HEADER_BYTES, _CORE_HEADER_BYTES = 0xEB9F, 24, 32
_STATIC, _GLOBAL, _EXTERN = 0, 1, 2
_LINKAGE = {"static": _STATIC, "global": _GLOBAL}
# 22 bits hold the number of a line
_LAST_LINE = (1 << 22) - 1
# enum bpf_core_relo_kind
_TYPE_ID_LOCAL = 6
# kernel functions that need no declaration
KFUNCS = {
    "bpf_throw": "void(u64)", "bpf_rcu_read_lock": "void()", "bpf_rcu_read_unlock": "void()",
    "bpf_preempt_disable": "void()", "bpf_preempt_enable": "void()",
}  # fmt: skip
# where a function is: its section, byte offset in it
Places = dict[str, tuple[str, int]]
# where a map or variable is, likewise, and its size
Data = dict[str, list[tuple[str, int, int]]]


def write(
    program: Program, places: Places, declared: Declarations = NOTHING
) -> tuple[bytes, bytes]:
    """Contents of .BTF and .BTF.ext.

    Raises UsageError for a kernel function whose prototype nobody knows here, a type that is none.
    """
    types = Types(declared)
    ids = {f.name: _function(program, f, types, declared) for f in program.functions}
    for section in declared.sections.values():
        _section(section, types, declared)
    _maps(declared, types)
    _externs(program, declared, types)
    ext = _ext(program, places, ids, types)
    body, strings = types.data(), types.strings.data
    header = struct.pack("<HBBIIIII", _MAGIC, 1, 0, _HEADER_BYTES, 0, len(body), len(body),
                         len(strings))  # fmt: skip
    return header + body + strings, ext


def map_bytes(declared: Declarations, name: str) -> int:
    """Size of a map's definition in section .maps."""
    return 8 * len(_attributes(declared.maps[name]))


def _function(
    program: Program, function: LinkedFunction, types: Types, declared: Declarations
) -> int:
    plain = function.linkage != "global" or not function.start
    usual = Prototype("int()" if plain else "int(u64)")
    found = declared.prototypes.get(function.name, usual)
    linkage = _LINKAGE[function.linkage]
    number = types.add(function.name, Kind.FUNC, linkage, types.number(found.type))
    tags = list(found.tags)
    if not function.start and program.exception_callback is not None:
        tags.append(f"exception_callback:{program.functions[program.exception_callback].name}")
    for text in tags:
        types.tag(text, number)
    for argument, text in found.argument_tags:
        types.tag(text, number, argument)
    return number


def _variable(types: Types, name: str, type_id: int, linkage: int) -> int:
    return types.add(name, Kind.VAR, 0, type_id, struct.pack("<I", linkage))


def _section(section: Globals, types: Types, declared: Declarations) -> None:
    rows = b""
    for each in section.variables:
        number = types.number(each.type)
        # static ones: no kernel maps a lock into user space, as libbpf has it do with others
        variable = _variable(types, each.name, number, _STATIC)
        for text in each.tags:
            types.tag(text, variable)
        # btf_find_datasec_var() of a kernel passes by what is not as large as its type
        size = size_of(each.type, declared) or len(section.data) - each.offset
        rows += struct.pack("<III", variable, each.offset, size)
    if rows:
        types.add(section.name, Kind.DATASEC, len(section.variables), len(section.data), rows)


# ---- maps ---------------------------------------------------------------------------------------


def _attributes(each: Map) -> list[tuple[str, int | str]]:
    """Members of a map's definition: a number, a type, or what its values are."""
    found: list[tuple[str, int | str]] = [("type", each.type)]
    for name, text in (("key", each.key), ("value", each.value)):
        if text.isdecimal():
            found.append((f"{name}_size", int(text)))
        elif text:
            found.append((name, text))
    numbers = {"max_entries": each.entries, "map_flags": each.flags, "map_extra": each.extra}
    found += [(name, value) for name, value in numbers.items() if value]
    if each.of:
        found.append(("values", each.of))
    return found


def _maps(declared: Declarations, types: Types) -> None:
    rows, at = b"", 0
    for name, each in declared.maps.items():
        definition = _definition(each, declared, types)
        size = map_bytes(declared, name)
        rows += struct.pack("<III", _variable(types, name, definition, _GLOBAL), at, size)
        at += size
    if rows:
        types.add(".maps", Kind.DATASEC, len(declared.maps), at, rows)


def _definition(each: Map, declared: Declarations, types: Types) -> int:
    rows = b""
    attributes = _attributes(each)
    for index, (name, value) in enumerate(attributes):
        if isinstance(value, int):
            number = types.pointer_to_array(value)
        elif name == "values":
            if value not in declared.inner:
                raise UsageError(f"map {each.name!r}: there is no .inner {value!r}")
            inner = _definition(declared.inner[value], declared, types)
            pointer = types.add("", Kind.PTR, 0, inner)
            tail = struct.pack("<III", pointer, types.number("u32"), 0)
            number = types.add("", Kind.ARRAY, 0, 0, tail)
        else:
            number = types.once(f"* {types.number(value)}", Kind.PTR, types.number(value))
        rows += struct.pack("<III", types.strings.at(name), number, index * 64)
    return types.add("", Kind.STRUCT, len(attributes), 8 * len(attributes), rows)


# ---- what the kernel has ------------------------------------------------------------------------


def _externs(program: Program, declared: Declarations, types: Types) -> None:
    """Kernel functions and variables in section .ksyms, where libbpf looks for them."""
    kinds = {r.name: r.kind for r in program.refs.values()
             if r.kind in (RefKind.KFUNC, RefKind.EXTERN)}  # fmt: skip
    rows = b""
    for name, kind in sorted(kinds.items()):
        extern = declared.externs.get(name)
        text = extern.type if extern else KFUNCS.get(name)
        if text is None:
            known = ", ".join(sorted(KFUNCS))
            raise UsageError(
                f"{kind} {name}: an assembled object does not know its prototype",
                fix=f"declare it, as in `.extern void {name}(u64)`; known without: {known}",
            )
        if kind is RefKind.KFUNC:
            number = types.add(name, Kind.FUNC, _EXTERN, types.number(text))
        else:
            number = _variable(types, name, types.number(text), _EXTERN)
        rows += struct.pack("<III", number, 0, 0)
    if rows:
        types.add(".ksyms", Kind.DATASEC, len(kinds), 0, rows)


# ---- BTF.ext ------------------------------------------------------------------------------------

_Rows = dict[str, list[tuple[int, bytes]]]


def _ext(program: Program, places: Places, ids: dict[str, int], types: Types) -> bytes:
    functions: _Rows = {}
    lines: _Rows = {}
    core: _Rows = {}
    strings = types.strings
    for function in program.functions:
        section, offset = places[function.name]
        row = struct.pack("<II", offset, ids[function.name])
        functions.setdefault(section, []).append((offset, row))
        for pc in range(function.start, function.end):
            at = offset + (pc - function.start) * 8
            line, ref = program.lines.get(pc), program.refs.get(pc)
            if line is not None:
                file, text = strings.at(line.file), strings.at(line.text)
                packed = struct.pack("<IIII", at, file, text, min(line.number, _LAST_LINE) << 10)
                lines.setdefault(section, []).append((at, packed))
            if ref is not None and ref.kind is RefKind.TYPE:
                number, access = types.number(ref.name), strings.at("0")
                packed = struct.pack("<IIII", at, number, access, _TYPE_ID_LOCAL)
                core.setdefault(section, []).append((at, packed))
    parts = [_part(8, functions, strings), _part(16, lines, strings)]
    if core:
        parts.append(_part(16, core, strings))
    length = _CORE_HEADER_BYTES if core else _HEADER_BYTES
    header, at = struct.pack("<HBBI", _MAGIC, 1, 0, length), 0
    for part in parts:
        header += struct.pack("<II", at, len(part))
        at += len(part)
    return header + b"".join(parts)


def _part(size: int, rows: _Rows, strings: Strings) -> bytes:
    if not rows:
        return b""  # libbpf takes a section without records for a broken one
    packed = struct.pack("<I", size)
    for section, found in rows.items():
        packed += struct.pack("<II", strings.at(section), len(found))
        packed += b"".join(row for _, row in sorted(found))
    return packed
