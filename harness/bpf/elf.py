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
from harness.bpf.btf import Btf, Ext, Kind
from harness.bpf.mapdef import MapDef, read_maps
from harness.bpf.rawelf import RawElf, Relocation, Symbol
from harness.errors import ObjectError

INSN_BYTES = 8
_CALLBACK_TAG = "exception_callback:"
_DATA_PREFIXES = (".data", ".bss", ".rodata")


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
class Extern:
    """An undefined symbol: a kfunc, a kernel variable or a Kconfig value."""

    name: str
    # ".ksyms" or ".kconfig"; "" where BTF does not say
    section: str
    is_function: bool
    weak: bool


@dataclass(frozen=True, slots=True)
class Object:
    """All of one object file."""

    path: str
    programs: tuple[Function, ...]
    # subprograms
    functions: tuple[Function, ...]
    maps: tuple[MapDef, ...]
    sections: tuple[DataSection, ...]
    externs: tuple[Extern, ...]
    license: str
    btf: Btf = field(repr=False)
    ext: Ext = field(repr=False)
    # name of an executable section -> its bytes and relocations, for the linker
    text: dict[str, bytes] = field(repr=False, default_factory=dict)
    relocations: dict[str, tuple[Relocation, ...]] = field(repr=False, default_factory=dict)
    # index of any section -> name, for the symbols in relocations
    section_names: tuple[str, ...] = field(repr=False, default=())

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
    types = btf_format.parse(by_name[".BTF"].data)
    ext_section = by_name.get(".BTF.ext")
    functions = _functions(raw, types)
    return Object(
        path=raw.path,
        programs=tuple(f for f in functions if f.is_program),
        functions=tuple(f for f in functions if not f.is_program),
        maps=read_maps(raw, types),
        sections=_data_sections(raw, types),
        externs=_externs(raw, types),
        license=_license(by_name),
        btf=types,
        ext=btf_format.parse_ext(ext_section.data, types) if ext_section else Ext(),
        text={s.name: s.data for s in raw.sections if s.executable and s.data},
        relocations={s.name: raw.relocations.get(s.index, ()) for s in raw.sections},
        section_names=tuple(s.name for s in raw.sections),
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
    return {v.name: data[v.offset : v.offset + v.size_bytes].hex() for v in found.variables}


def _functions(raw: RawElf, btf: Btf) -> list[Function]:
    tags: dict[int, list[str]] = {}
    funcs = {t.name: t for t in btf.types if t.kind is Kind.FUNC}
    for record in btf.types:
        if record.kind is Kind.DECL_TAG and record.component == -1:
            tags.setdefault(record.type_id, []).append(record.name)
    executable = {s.index: s for s in raw.sections if s.executable}
    found = []
    for symbol in raw.symbols:
        if symbol.type != "STT_FUNC" or symbol.section not in executable:
            continue
        section = executable[symbol.section]
        _check_function(raw.path, symbol, section)
        record_id = funcs[symbol.name].id if symbol.name in funcs else 0
        static = symbol.binding == "STB_LOCAL" or symbol.hidden
        found.append(
            Function(
                name=symbol.name,
                section=section.name,
                offset=symbol.offset,
                size_bytes=symbol.size_bytes,
                linkage="static" if static else "global",
                is_program=section.name != ".text",
                tags=tuple(tags.get(record_id, ())),
            )
        )
    twice = [name for name, count in Counter(f.name for f in found).items() if count > 1]
    if twice:
        raise ObjectError(
            f"{raw.path}: two programs or functions are named {twice[0]!r}",
            fix="rename one of them",
        )
    order = {s.name: s.index for s in raw.sections}
    return sorted(found, key=lambda f: (order[f.section], f.offset))


def _check_function(path: str, symbol: Symbol, section: rawelf.Section) -> None:
    where = f"{path}: function {symbol.name!r} in section {section.name!r}"
    end = symbol.offset + symbol.size_bytes
    if symbol.offset % INSN_BYTES or symbol.size_bytes % INSN_BYTES or not symbol.size_bytes:
        raise ObjectError(f"{where}: bytes {symbol.offset}..{end} are not whole instructions")
    if end > len(section.data):
        raise ObjectError(f"{where}: ends at byte {end}, the section has {len(section.data)}")
    if section.name != ".text" and symbol.binding == "STB_LOCAL":
        raise ObjectError(f"{where}: a program may not be static", fix="remove `static`")


def _data_sections(raw: RawElf, btf: Btf) -> tuple[DataSection, ...]:
    return tuple(
        DataSection(section.name, section.data, _variables(raw, section, btf))
        for section in raw.sections
        if _is_data(section.name) and section.data
    )


def _is_data(name: str) -> bool:
    return any(name == p or name.startswith(p + ".") for p in _DATA_PREFIXES)


def _variables(raw: RawElf, section: rawelf.Section, btf: Btf) -> tuple[Variable, ...]:
    """Variables of the section's DATASEC; their offsets are only in the symbol table."""
    types = btf.find(Kind.DATASEC, section.name)
    if types is None:
        return ()
    symbols = {
        s.name: s for s in raw.symbols if s.section == section.index and s.type == "STT_OBJECT"
    }
    found = []
    for member in types.members:
        variable = btf.type(member.type_id)
        symbol = symbols.get(variable.name)
        if symbol is None:
            continue
        size = btf.size_of(variable.type_id) or symbol.size_bytes
        if symbol.offset + size > len(section.data):
            raise ObjectError(f"{raw.path}: variable {variable.name!r} runs out of {section.name}")
        found.append(Variable(variable.name, symbol.offset, size, variable.type_id))
    return tuple(sorted(found, key=lambda v: v.offset))


def _externs(raw: RawElf, btf: Btf) -> tuple[Extern, ...]:
    sections = {
        btf.type(member.type_id).name: section.name
        for section in btf.types
        if section.kind is Kind.DATASEC
        for member in section.members
    }
    functions = {t.name for t in btf.types if t.kind is Kind.FUNC and t.linkage == "extern"}
    return tuple(
        Extern(s.name, sections.get(s.name, ""), s.name in functions, s.binding == "STB_WEAK")
        for s in raw.symbols
        if s.section == 0 and s.name and s.binding in ("STB_GLOBAL", "STB_WEAK")
    )


def _license(sections: dict[str, rawelf.Section]) -> str:
    section = sections.get("license")
    return section.data.split(b"\0")[0].decode(errors="replace") if section else ""
