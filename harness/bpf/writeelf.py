# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A program as an object file that libbpf loads: what the assembler cannot say in bare bytes.

Owns the ELF around one program without maps and globals: its section, .text with its subprograms,
relocations, licence. The BTF in it is harness.bpf.writebtf's.
"""

import dataclasses
import struct
from dataclasses import dataclass, field

from harness.bpf import isa, writebtf
from harness.bpf.isa import INSN_BYTES, Insn
from harness.bpf.program import LinkedFunction, Program, RefKind
from harness.errors import UsageError

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_REL = struct.Struct("<QQ")
_EM_BPF, _ET_REL = 247, 1
_PROGBITS, _SYMTAB, _STRTAB, _RELOCATIONS = 1, 2, 3, 9
_ALLOC, _EXECUTABLE, _INFO_LINK = 2, 4, 0x40
_FUNC, _SECTION_SYMBOL, _GLOBAL = 2, 3, 1 << 4
_TEXT = ".text"
_R_64_64, _R_64_32 = 1, 10


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


def write_object(program: Program, license_name: str = "GPL") -> bytes:
    """The object file. Raises UsageError for what only C can say: maps, globals, other externs."""
    main, text = _Code(program.section), _Code(_TEXT)
    places: dict[str, tuple[_Code, int]] = {}
    for number, function in enumerate(program.functions):
        code = text if number else main
        places[function.name] = (code, len(code.insns))
        code.insns += program.insns[function.start : function.end]
    for function in program.functions:
        _relocate(program, function, places)
    codes = [code for code in (main, text) if code.insns]
    spots = {name: (code.name, at * INSN_BYTES) for name, (code, at) in places.items()}
    btf, ext = writebtf.write(program, spots)
    sections = [_Section(c.name, _PROGBITS, _ALLOC | _EXECUTABLE, isa.encode(tuple(c.insns)))
                for c in codes]  # fmt: skip
    data = {"license": license_name.encode() + b"\0", ".BTF": btf, ".BTF.ext": ext}
    sections += [_Section(name, _PROGBITS, 0, content) for name, content in data.items()]
    symbols, numbers, strings = _symbols(program, places, codes)
    symtab = len(sections) + 1
    first_global = sum(f.linkage != "global" for f in program.functions) + 2
    sections.append(_Section(".symtab", _SYMTAB, 0, symbols, symtab + 1, first_global, 24))
    sections.append(_Section(".strtab", _STRTAB, 0, strings))
    for number, code in enumerate(codes, 1):
        if code.relocations:
            rows = b"".join(
                _REL.pack(at * INSN_BYTES, numbers[name] << 32 | kind)
                for at, name, kind in code.relocations
            )
            sections.append(
                _Section(f".rel{code.name}", _RELOCATIONS, _INFO_LINK, rows, symtab, number, 16)
            )
    return _file(sections)


# Give calls and addresses of one function the form that a compiler leaves them in.
def _relocate(
    program: Program, function: LinkedFunction, places: dict[str, tuple[_Code, int]]
) -> None:
    code, start = places[function.name]
    for pc in range(function.start, function.end):
        insn, ref, at = program.insns[pc], program.refs.get(pc), start + pc - function.start
        if ref is not None and ref.kind is RefKind.KFUNC:
            code.insns[at] = dataclasses.replace(insn, src=isa.PSEUDO_CALL, off=0, imm=-1)
            code.relocations.append((at, ref.name, _R_64_32))
        elif ref is not None and ref.kind is not RefKind.FUNCTION:
            raise UsageError(
                f"{ref.kind} {ref.name!r}: an assembled object has none",
                fix="write it in C, with the instructions in asm volatile",
            )
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


def _function_at(program: Program, pc: int, target: int) -> LinkedFunction:
    found = next((f for f in program.functions if f.start == target), None)
    if found is None:
        raise UsageError(f"instruction {pc} leads to {target}, where no function starts")
    return found


def _symbols(
    program: Program, places: dict[str, tuple[_Code, int]], codes: list[_Code]
) -> tuple[bytes, dict[str, int], bytes]:
    """Symbol table, number of each symbol, names. Local symbols come first."""
    text = next((i for i, code in enumerate(codes, 1) if code.name == _TEXT), 0)
    rows, strings = [bytes(_SYMBOL.size), _SYMBOL.pack(0, _SECTION_SYMBOL, 0, text, 0, 0)], b"\0"
    numbers = {_TEXT: 1}
    externs = {r.name for r in program.refs.values() if r.kind is RefKind.KFUNC}
    ordered = sorted(program.functions, key=lambda f: f.linkage == "global")
    for function in ordered:
        code, at = places[function.name]
        kind = _FUNC | (_GLOBAL if function.linkage == "global" else 0)
        size = (function.end - function.start) * INSN_BYTES
        section = codes.index(code) + 1
        numbers[function.name] = len(rows)
        rows.append(_SYMBOL.pack(len(strings), kind, 0, section, at * INSN_BYTES, size))
        strings += function.name.encode() + b"\0"
    for name in sorted(externs):
        numbers[name] = len(rows)
        rows.append(_SYMBOL.pack(len(strings), _GLOBAL, 0, 0, 0, 0))
        strings += name.encode() + b"\0"
    return b"".join(rows), numbers, strings


def _file(sections: list[_Section]) -> bytes:
    names, headers, body, at = b"\0", [bytes(_SECTION.size)], b"", _HEADER.size
    for section in [*sections, _Section(".shstrtab", _STRTAB, 0, b"")]:
        name = len(names)
        names += section.name.encode() + b"\0"
        data = names if section.name == ".shstrtab" else section.data
        data += bytes(-len(data) % 8)
        size = len(names) if section.name == ".shstrtab" else len(section.data)
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
