# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A program as an object file that libbpf loads: what the assembler cannot say in bare bytes.

Owns the ELF around one program: its section, .text with its subprograms, maps, globals,
relocations, licence. The BTF in it is harness.bpf.writebtf's.
"""

import dataclasses
import struct
from dataclasses import dataclass, field

from harness.bpf import isa, writebtf
from harness.bpf.declared import Declarations
from harness.bpf.isa import INSN_BYTES, Insn
from harness.bpf.program import LinkedFunction, Program, Ref, RefKind
from harness.errors import UsageError

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_REL = struct.Struct("<QQ")
_EM_BPF, _ET_REL = 247, 1
_PROGBITS, _SYMTAB, _STRTAB, _NOBITS, _RELOCATIONS = 1, 2, 3, 8, 9
_WRITE, _ALLOC, _EXECUTABLE, _INFO_LINK = 1, 2, 4, 0x40
_OBJECT, _FUNC, _SECTION_SYMBOL, _GLOBAL, _WEAK = 1, 2, 3, 1 << 4, 2 << 4
_TEXT, _MAPS = ".text", ".maps"
_R_64_64, _R_64_32 = 1, 10
# what a relocation names, and its type
_NAMED = frozenset({RefKind.MAP, RefKind.GLOBAL, RefKind.EXTERN})


@dataclass(slots=True)
class _Section:
    """One section of the file; its place in the list is its number."""

    name: str
    type: int
    flags: int
    data: bytes
    link: int = 0
    info: int = 0
    entry_bytes: int = 0


@dataclass(slots=True)
class _Code:
    """One section of code while it grows."""

    name: str
    insns: list[Insn] = field(default_factory=list)
    # instruction -> (name of the symbol, type)
    relocations: list[tuple[int, str, int]] = field(default_factory=list)


def write_object(
    program: Program, license_name: str = "GPL", declared: Declarations | None = None
) -> bytes:
    """The object file. Raises UsageError for what nobody declared: a map, a section of globals.

    `declared` has a licence of its own.
    """
    declared = declared or Declarations(license=license_name)
    main, text = _Code(program.section), _Code(_TEXT)
    places: dict[str, tuple[_Code, int]] = {}
    for number, function in enumerate(program.functions):
        code = text if number else main
        places[function.name] = (code, len(code.insns))
        code.insns += program.insns[function.start : function.end]
    for function in program.functions:
        _relocate(program, function, places, declared)
    codes = [code for code in (main, text) if code.insns]
    spots = {name: (code.name, at * INSN_BYTES) for name, (code, at) in places.items()}
    btf, ext = writebtf.write(program, spots, declared)
    sections = [_Section(c.name, _PROGBITS, _ALLOC | _EXECUTABLE, isa.encode(tuple(c.insns)))
                for c in codes]  # fmt: skip
    sections += _data(declared)
    data = {"license": declared.license.encode() + b"\0", ".BTF": btf, ".BTF.ext": ext}
    sections += [_Section(name, _PROGBITS, 0, content) for name, content in data.items()]
    table = _symbols(program, places, sections, declared)
    symtab = len(sections) + 1
    sections.append(
        _Section(".symtab", _SYMTAB, 0, b"".join(table.rows), symtab + 1, table.locals, 24)
    )
    sections.append(_Section(".strtab", _STRTAB, 0, table.strings))
    for number, code in enumerate(codes, 1):
        if code.relocations:
            rows = b"".join(
                _REL.pack(at * INSN_BYTES, table.numbers[name] << 32 | kind)
                for at, name, kind in code.relocations
            )
            sections.append(
                _Section(f".rel{code.name}", _RELOCATIONS, _INFO_LINK, rows, symtab, number, 16)
            )
    return _file(sections)


# Give calls and addresses of one function the form that a compiler leaves them in.
def _relocate(
    program: Program,
    function: LinkedFunction,
    places: dict[str, tuple[_Code, int]],
    declared: Declarations,
) -> None:
    code, start = places[function.name]
    for pc in range(function.start, function.end):
        insn, ref, at = program.insns[pc], program.refs.get(pc), start + pc - function.start
        if ref is not None and ref.kind is RefKind.KFUNC:
            code.insns[at] = dataclasses.replace(insn, src=isa.PSEUDO_CALL, off=0, imm=-1)
            code.relocations.append((at, ref.name, _R_64_32))
        elif ref is not None and ref.kind in _NAMED:
            _require(ref, declared)
            offset = ref.offset if ref.kind is RefKind.GLOBAL else 0
            code.insns[at] = dataclasses.replace(insn, src=0, imm=offset)
            code.insns[at + 1] = Insn(0, 0, 0, 0, 0)
            code.relocations.append((at, ref.name, _R_64_64))
        elif (insn.code, insn.src) in isa.LEADS_TO_CODE:
            target = _function_at(program, pc, pc + 1 + insn.imm)
            if insn.code == isa.LD_IMM64:
                # sym_is_subprog() of libbpf: a static function is a place in .text
                offset = places[target.name][1] * INSN_BYTES
                code.insns[at] = dataclasses.replace(insn, src=0, imm=offset)
                code.relocations.append((at, _TEXT, _R_64_64))
            elif places[target.name][0] is code:
                code.insns[at] = dataclasses.replace(insn, imm=places[target.name][1] - at - 1)
            else:
                code.insns[at] = dataclasses.replace(insn, imm=-1)
                code.relocations.append((at, target.name, _R_64_32))


def _require(ref: Ref, declared: Declarations) -> None:
    if ref.kind is RefKind.MAP and ref.name not in declared.maps:
        raise UsageError(
            f"map {ref.name!r}: nobody declared it",
            fix=f"add a line like `.map {ref.name} array key u32 value u64 entries 1`",
        )
    if ref.kind is RefKind.GLOBAL and ref.name not in declared.sections:
        raise UsageError(
            f"global {ref.name!r}: nobody declared such a section",
            fix=f"add a line like `.globals {ref.name} 8`",
        )


def _function_at(program: Program, pc: int, target: int) -> LinkedFunction:
    found = next((f for f in program.functions if f.start == target), None)
    if found is None:
        raise UsageError(f"instruction {pc} leads to {target}, where no function starts")
    return found


def _data(declared: Declarations) -> list[_Section]:
    """Maps and globals."""
    found = []
    if declared.maps:
        size = sum(writebtf.map_bytes(declared, name) for name in declared.maps)
        found.append(_Section(_MAPS, _PROGBITS, _ALLOC | _WRITE, bytes(size)))
    for name, section in declared.sections.items():
        kind = _NOBITS if name.startswith(".bss") else _PROGBITS
        flags = _ALLOC if name.startswith(".rodata") else _ALLOC | _WRITE
        found.append(_Section(name, kind, flags, section.data))
    return found


@dataclass(slots=True)
class _Symbols:
    """The symbol table while it grows; local symbols come first."""

    rows: list[bytes] = field(default_factory=lambda: [bytes(_SYMBOL.size)])
    numbers: dict[str, int] = field(default_factory=dict)
    strings: bytes = b"\0"
    # how many are local
    locals: int = 1

    def add(self, name: str, info: int, section: int, at: int = 0, size: int = 0) -> None:
        """Append one; a section is known by its name, but has none in the table."""
        self.numbers[name] = len(self.rows)
        text = 0 if info == _SECTION_SYMBOL else len(self.strings)
        self.rows.append(_SYMBOL.pack(text, info, 0, section, at, size))
        if text:
            self.strings += name.encode() + b"\0"
        if info < _GLOBAL:
            self.locals = len(self.rows)


def _symbols(
    program: Program,
    places: dict[str, tuple[_Code, int]],
    sections: list[_Section],
    declared: Declarations,
) -> _Symbols:
    index = {section.name: number for number, section in enumerate(sections, 1)}
    table = _Symbols()
    for name in (_TEXT, *declared.sections):
        table.add(name, _SECTION_SYMBOL, index.get(name, 0))
    for section in declared.sections.values():
        for each in section.variables:
            table.add(each.name, _OBJECT, index[section.name], each.offset)
    for function in sorted(program.functions, key=lambda f: f.linkage == "global"):
        code, at = places[function.name]
        kind = _FUNC | (_GLOBAL if function.linkage == "global" else 0)
        size = (function.end - function.start) * INSN_BYTES
        table.add(function.name, kind, index[code.name], at * INSN_BYTES, size)
    at = 0
    for name in declared.maps:
        size = writebtf.map_bytes(declared, name)
        table.add(name, _OBJECT | _GLOBAL, index[_MAPS], at, size)
        at += size
    kinds = (RefKind.KFUNC, RefKind.EXTERN)
    for name in sorted({r.name for r in program.refs.values() if r.kind in kinds}):
        extern = declared.externs.get(name)
        table.add(name, _WEAK if extern is not None and extern.weak else _GLOBAL, 0)
    return table


def _file(sections: list[_Section]) -> bytes:
    names, headers, body, at = b"\0", [bytes(_SECTION.size)], b"", _HEADER.size
    for section in [*sections, _Section(".shstrtab", _STRTAB, 0, b"")]:
        name = len(names)
        names += section.name.encode() + b"\0"
        data = names if section.name == ".shstrtab" else section.data
        size = len(names) if section.name == ".shstrtab" else len(section.data)
        data = b"" if section.type == _NOBITS else data + bytes(-len(data) % 8)
        headers.append(
            _SECTION.pack(name, section.type, section.flags, 0, at, size, section.link,
                          section.info, 8, section.entry_bytes)
        )  # fmt: skip
        body, at = body + data, at + len(data)
    ident = b"\x7fELF\2\1\1" + bytes(9)
    header = _HEADER.pack(
        ident, _ET_REL, _EM_BPF, 1, 0, 0, at, 0, _HEADER.size, 0, 0, _SECTION.size,
        len(headers), len(headers) - 1,
    )  # fmt: skip
    return header + body + b"".join(headers)
