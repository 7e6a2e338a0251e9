# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A compiled BPF object as one value: programs, subprograms, maps, globals, externs, BTF.

Owns what libbpf makes of an ELF file before any kernel is asked (bpf_object__elf_collect in
tools/lib/bpf/libbpf.c). Linking one program out of it is harness.bpf.link's business.
"""

import os
from collections import Counter
from dataclasses import dataclass, field

from harness.bpf import btf as btf_format
from harness.bpf import rawelf
from harness.bpf.btf import Btf, Kind, Type
from harness.bpf.btfext import Ext, parse_ext
from harness.bpf.externs import Extern, read_externs
from harness.bpf.mapdef import MapDef, read_maps
from harness.bpf.rawelf import RawElf, Relocation, Symbol
from harness.bpf.special import without_addresses
from harness.errors import ObjectError

INSN_BYTES = 8
TEXT = ".text"
# global variables of an arena, as clang names their address space
ARENA = ".addr_space.1"
_CALLBACK_TAG = "exception_callback:"
# sections of globals by their own name, or with ".NAME" behind it -> section type
_DATA_PREFIXES = {".data": "SHT_PROGBITS", ".rodata": "SHT_PROGBITS", ".bss": "SHT_NOBITS"}


@dataclass(frozen=True, slots=True)
class Function:
    """One FUNC symbol: a program (its own section) or a subprogram (.text)."""

    name: str
    # section as libbpf reads it, "?" included
    section: str
    # where its code is in the section, bytes
    offset: int
    size_bytes: int
    # "global" or "static" as the verifier sees it
    linkage: str
    is_program: bool
    # declaration tags on the function, in BTF order
    tags: tuple[str, ...] = ()

    @property
    def autoload(self) -> bool:
        """Whether loading the object loads this program."""
        return self.is_program and not self.section.startswith("?")

    @property
    def exception_callbacks(self) -> tuple[str, ...]:
        """Values of its exception_callback: tags; more than one is an error for a verifier."""
        tags = (t for t in self.tags if t.startswith(_CALLBACK_TAG))
        return tuple(t.removeprefix(_CALLBACK_TAG) for t in tags)


@dataclass(frozen=True, slots=True)
class Variable:
    """One global variable."""

    name: str
    # bytes from the section's start
    offset: int
    size_bytes: int
    # BTF type; 0 where it has none
    type_id: int = 0
    # neither static nor hidden
    exported: bool = False


@dataclass(frozen=True, slots=True)
class DataSection:
    """One section of globals: .data, .bss, .rodata and those named .data.NAME and so on."""

    name: str
    # initial content
    data: bytes = field(repr=False)
    variables: tuple[Variable, ...] = ()

    @property
    def read_only(self) -> bool:
        """Whether the program may not write it."""
        return self.name.startswith(".rodata")


@dataclass(frozen=True, slots=True)
class Object:
    """All of one object file."""

    path: str
    programs: tuple[Function, ...]
    # subprograms
    functions: tuple[Function, ...]
    maps: tuple[MapDef, ...]
    sections: tuple[DataSection, ...]
    # in libbpf's order, which numbers them
    externs: tuple[Extern, ...]
    license: str
    btf: Btf = field(repr=False)
    ext: Ext = field(repr=False)
    # name of an executable section -> its bytes and relocations, for the linker
    text: dict[str, bytes] = field(repr=False, default_factory=dict)
    relocations: dict[str, tuple[Relocation, ...]] = field(repr=False, default_factory=dict)
    # index of any section -> name, for the symbols in relocations
    section_names: tuple[str, ...] = field(repr=False, default=())
    # initial content of the arena's global variables
    arena: DataSection | None = None

    def program(self, name: str) -> Function:
        """The program of this name. Raises ObjectError listing the names there are."""
        found = next((p for p in self.programs if p.name == name), None)
        if found is None:
            names = ", ".join(sorted(p.name for p in self.programs)) or "none"
            raise ObjectError(f"{self.path}: no program {name!r}", fix=f"programs: {names}")
        return found

    def map(self, name: str) -> MapDef | None:
        """The map of this name."""
        return next((m for m in self.maps if m.name == name), None)

    def data_section(self, name: str) -> DataSection | None:
        """The section of globals of this name."""
        return next((s for s in self.sections if s.name == name), None)


def read_object(path: str | os.PathLike[str]) -> Object:
    """Read a compiled object. Raises ObjectError for every file that libbpf could not use."""
    raw = rawelf.read(path)
    by_name = {s.name: s for s in raw.sections}
    if ".BTF" not in by_name:
        raise ObjectError(
            f"{raw.path}: no type information (BTF)", fix="compile with -g (and -O2 -target bpf)"
        )
    try:
        return _object(raw, by_name)
    except ObjectError as error:
        if raw.path in error.message:
            raise
        raise ObjectError(f"{raw.path}: {error.message}", fix=error.fix) from error


def _object(raw: RawElf, by_name: dict[str, rawelf.Section]) -> Object:
    names = Counter(s.name for s in raw.sections if s.executable)
    if len(names) < names.total():
        name = names.most_common(1)[0][0]
        raise ObjectError(f"{raw.path}: {names[name]} sections of code are named {name!r}")
    types = btf_format.parse(by_name[".BTF"].data, f"{raw.path}: BTF")
    ext_section = by_name.get(".BTF.ext")
    ext = parse_ext(ext_section.data, types) if ext_section else Ext()
    functions = _functions(raw, types, ext)
    return Object(
        path=raw.path,
        programs=tuple(f for f in functions if f.is_program),
        functions=tuple(f for f in functions if not f.is_program),
        maps=read_maps(raw, types),
        sections=_data_sections(raw, types),
        externs=read_externs(raw, types),
        license=_license(by_name),
        btf=types,
        ext=ext,
        text={s.name: s.data for s in raw.sections if s.executable and s.data},
        relocations={s.name: raw.relocations.get(s.index, ()) for s in raw.sections},
        section_names=tuple(s.name for s in raw.sections),
        arena=next((DataSection(s.name, s.data) for s in raw.sections if s.name == ARENA), None),
    )


def decode_globals(obj: Object, section: str, data: bytes) -> dict[str, str]:
    """Variable name -> hex bytes, for the content `data` of a section of globals.

    Raises ObjectError when the object has no such section or `data` is too short for it.
    """
    found = obj.data_section(section)
    if found is None:
        raise ObjectError(f"{obj.path}: no section of globals {section!r}")
    if len(data) < len(found.data):
        raise ObjectError(
            f"{obj.path}: {section} has {len(found.data)} bytes, {len(data)} were given"
        )
    shown = {v.name: data[v.offset : v.offset + v.size_bytes] for v in found.variables}
    types = {v.name: v.type_id for v in found.variables}
    return {
        name: without_addresses(obj.btf, types[name], value).hex() for name, value in shown.items()
    }


def _functions(raw: RawElf, btf: Btf, ext: Ext) -> list[Function]:
    tags: dict[int, list[str]] = {}
    for record in btf.of_kind(Kind.DECL_TAG):
        if record.component == -1:
            tags.setdefault(record.type_id, []).append(record.name)
    ids = {t.name: t.id for t in btf.of_kind(Kind.FUNC)}
    executable = {s.index: s for s in raw.sections if s.executable}
    found = []
    for symbol in raw.symbols:
        if symbol.type != "STT_FUNC" or symbol.section not in executable:
            continue
        section = executable[symbol.section]
        _check_function(raw.path, symbol, section)
        # two static functions may have one name: the place is what tells
        type_id = ext.functions.get(section.name, {}).get(symbol.offset, ids.get(symbol.name, 0))
        static = symbol.binding == "STB_LOCAL" or symbol.hidden
        found.append(
            Function(
                name=symbol.name,
                section=section.name,
                offset=symbol.offset,
                size_bytes=symbol.size_bytes,
                linkage="static" if static else "global",
                is_program=section.name != TEXT,
                tags=tuple(tags.get(type_id, ())),
            )
        )
    _check_names(raw.path, found)
    order = {s.name: s.index for s in raw.sections}
    return sorted(found, key=lambda f: (order[f.section], f.offset))


def _check_names(path: str, functions: list[Function]) -> None:
    names = Counter(f.name for f in functions if f.is_program or f.linkage == "global")
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ObjectError(
            f"{path}: two programs or functions are named {twice[0]!r}", fix="rename one of them"
        )


def _check_function(path: str, symbol: Symbol, section: rawelf.Section) -> None:
    where = f"{path}: function {symbol.name!r} in section {section.name!r}"
    end = symbol.offset + symbol.size_bytes
    if symbol.offset % INSN_BYTES or symbol.size_bytes % INSN_BYTES or not symbol.size_bytes:
        raise ObjectError(f"{where}: bytes {symbol.offset}..{end} are not whole instructions")
    if end > len(section.data):
        raise ObjectError(f"{where}: ends at byte {end}, the section has {len(section.data)}")
    if section.name != TEXT and symbol.binding == "STB_LOCAL":
        raise ObjectError(f"{where}: a program may not be static", fix="remove `static`")


def _data_sections(raw: RawElf, btf: Btf) -> tuple[DataSection, ...]:
    types = {t.name: t for t in reversed(list(btf.of_kind(Kind.DATASEC)))}
    symbols: dict[int, dict[str, Symbol]] = {}
    for symbol in raw.symbols:
        if symbol.type == "STT_OBJECT":
            symbols.setdefault(symbol.section, {})[symbol.name] = symbol
    return tuple(
        DataSection(
            section.name,
            section.data,
            _variables(raw.path, section, symbols.get(section.index, {}), types, btf),
        )
        for section in raw.sections
        if section.type == _type_of_data(section.name) and section.data
    )


def _type_of_data(name: str) -> str:
    """Section type that libbpf wants for a section of globals; "" for any other section."""
    found = (t for p, t in _DATA_PREFIXES.items() if name == p or name.startswith(p + "."))
    return next(found, "")


def _variables(
    path: str,
    section: rawelf.Section,
    symbols: dict[str, Symbol],
    types: dict[str, Type],
    btf: Btf,
) -> tuple[Variable, ...]:
    """Variables of the section's DATASEC; their offsets are only in the symbol table."""
    found = []
    for member in types[section.name].members if section.name in types else ():
        variable = btf.type(member.type_id)
        symbol = symbols.get(variable.name)
        if symbol is None:
            continue
        size = btf.size_of(variable.type_id) or symbol.size_bytes
        if symbol.offset + size > len(section.data):
            raise ObjectError(f"{path}: variable {variable.name!r} runs out of {section.name}")
        exported = variable.linkage != "static" and not symbol.hidden
        found.append(Variable(variable.name, symbol.offset, size, variable.type_id, exported))
    return tuple(sorted(found, key=lambda v: v.offset))


def _license(sections: dict[str, rawelf.Section]) -> str:
    section = sections.get("license")
    return section.data.split(b"\0")[0].decode(errors="replace") if section else ""
