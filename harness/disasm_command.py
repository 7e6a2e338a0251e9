# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow disasm`: instructions of an object, or of one linked program, as text or JSON.

Owns its options and the layout of the listing: functions, lines of C, what relocations refer to.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.bpf import disasm, isa, objdump
from harness.bpf.btfext import Line
from harness.bpf.elf import Function, Object, read_object
from harness.bpf.isa import INSN_BYTES, Insn
from harness.bpf.link import LinkedFunction, Program, link
from harness.bpf.rawelf import read, read_bytes
from harness.build import SOURCE_SUFFIX, build
from harness.errors import Exit, UsageError

DIALECTS = ("kernel", "llvm", "source")
_EPILOG = """examples:
  bpfthrow disasm parser_xdp.bpf.o                         every section, as the object has it
  bpfthrow disasm parser_xdp.bpf.o --prog parse --linked   one program with all that it calls
  bpfthrow disasm x.bpf.o --dialect llvm --no-lines        what `llvm-objdump-19 -d` prints
  bpfthrow disasm x.bpf.o --linked --dialect source        what `bpfthrow asm` reads
  bpfthrow disasm xlated.bin --raw                         of `bpftool prog dump xlated ... file`

exit codes: 0 good, 2 wrong usage or a file that cannot be read
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """One instruction of the listing."""

    pc: int
    code: bytes
    text: str
    line: Line | None
    # what a relocation of an object that is not linked refers to
    refers_to: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    """One function of the listing."""

    name: str
    section: str
    linkage: str
    rows: tuple[_Row, ...]
    # what `bpfthrow asm` has to know before it
    directives: tuple[str, ...] = ()


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `disasm` command."""
    parser = subparsers.add_parser(
        "disasm",
        help="show instructions",
        description="Show the instructions of an object, or of one program as a kernel gets it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="object (.bpf.o), or source (.bpf.c), which is compiled")
    add("--prog", metavar="NAME", help="this program only")
    add("--linked", action="store_true", help="with the functions that it calls, as libbpf links")
    add("--dialect", choices=DIALECTS, default="kernel",
        help="words of bpftool (kernel), llvm-objdump or `bpfthrow asm` (source)")  # fmt: skip
    add("--no-lines", dest="lines", action="store_false", help="leave out the lines of C")
    add("--raw", action="store_true", help="FILE holds bare instructions")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the command. Raises UsageError or ObjectError for the caller's mistakes."""
    if args.raw and (args.prog or args.linked):
        raise UsageError("--raw knows no programs", fix="leave out --prog and --linked")
    file = str(build([args.file])[0]) if args.file.endswith(SOURCE_SUFFIX) else args.file
    whole = not (args.raw or args.prog or args.linked or args.json or args.lines)
    if args.dialect == "llvm" and whole:
        print(objdump.listing(read(file)), end="")
        return Exit.OK
    parts = list(_parts(args, file))
    if args.json:
        print(json.dumps({"file": file, "functions": [_json(part) for part in parts]}, indent=2))
    else:
        print("\n\n".join(_text(part, args) for part in parts))
    return Exit.OK


def _parts(args: argparse.Namespace, file: str) -> Iterator[_Part]:
    words = _words(args.dialect)
    if args.raw:
        insns = isa.decode(read_bytes(file))
        yield _Part("main", "", "global", tuple(_rows(insns, words, {}, range(len(insns)))))
        return
    obj = read_object(file)
    if not args.linked:
        for function in _functions(obj, args.prog):
            yield _of_object(obj, function, words)
        return
    program = link(obj, _chosen(obj, args.prog).name)
    for linked in program.functions:
        yield _of_program(program, linked, _linked_words(program, args.dialect))


# text of one instruction
_Words = Callable[[Sequence[Insn], int], str]


def _words(dialect: str) -> _Words:
    return {"kernel": disasm.line, "llvm": objdump.text, "source": disasm.source}[dialect]


# The same, with the names that a linked program has where others have numbers.
def _linked_words(program: Program, dialect: str) -> _Words:
    names = disasm.linked_names(program)
    if dialect == "kernel":
        return lambda insns, pc: disasm.line(insns, pc, names)
    if dialect == "source":
        named = program.refs.keys()
        return lambda insns, pc: (
            disasm.text(insns, pc, names) if pc in named else disasm.source(insns, pc)
        )
    return _words(dialect)


def _functions(obj: Object, name: str | None) -> list[Function]:
    if name is not None:
        return [obj.program(name)]
    return sorted((*obj.programs, *obj.functions), key=lambda f: (f.section, f.offset))


def _chosen(obj: Object, name: str | None) -> Function:
    if name is not None:
        return obj.program(name)
    if len(obj.programs) != 1:
        names = ", ".join(p.name for p in obj.programs) or "none"
        raise UsageError(
            f"{obj.path}: has {len(obj.programs)} programs", fix=f"choose by --prog: {names}"
        )
    return obj.programs[0]


def _of_object(obj: Object, function: Function, words: _Words) -> _Part:
    """The code of one function as it stands in its section; indexes count from its start."""
    end = function.offset + function.size_bytes
    code = obj.text[function.section][function.offset : end]
    lines, notes = {}, {}
    for offset, line in obj.ext.lines.get(function.section, {}).items():
        lines[(offset - function.offset) // INSN_BYTES] = line
    for relocation in obj.relocations.get(function.section, ()):
        symbol = relocation.symbol
        named = symbol.name or obj.section_names[symbol.section]
        notes[(relocation.offset - function.offset) // INSN_BYTES] = named
    insns = isa.decode(code)
    rows = _rows(insns, words, lines, range(len(insns)), notes)
    return _Part(function.name, function.section, function.linkage, tuple(rows))


def _of_program(program: Program, function: LinkedFunction, words: _Words) -> _Part:
    rows = tuple(_rows(program.insns, words, program.lines, range(function.start, function.end)))
    if function.start:
        return _Part(function.name, "", function.linkage, rows)
    directives = [f".section {program.section}"]
    if program.exception_callback is not None:
        directives.append(f".callback {program.functions[program.exception_callback].name}")
    return _Part(function.name, program.section, function.linkage, rows, tuple(directives))


def _rows(
    insns: Sequence[Insn],
    words: _Words,
    lines: dict[int, Line],
    inside: range,
    notes: dict[int, str] | None = None,
) -> Iterator[_Row]:
    for pc in disasm.starts(insns, inside.start, inside.stop):
        size = 2 if insns[pc].code == isa.LD_IMM64 else 1
        code = isa.encode(tuple(insns[pc : pc + size]))
        note = (notes or {}).get(pc, "")
        yield _Row(pc, code, words(insns, pc), lines.get(pc), note)


def _text(part: _Part, args: argparse.Namespace) -> str:
    source = args.dialect == "source"
    shown = [f"{part.name}:" + (f"\t\t; section {part.section}" if part.section else "")]
    if source:
        shown = [*part.directives, f".func {part.name} {part.linkage}"]
    for row in part.rows:
        if args.lines and row.line is not None:
            file = row.line.file.rpartition("/")[2]
            shown.append(f"; {row.line.text} @ {file}:{row.line.number}")
        note = f"\t; {row.refers_to}" if row.refers_to else ""
        shown.append(f"{'' if source else f'{row.pc:4}:'} {row.text}{note}")
    return "\n".join(shown)


def _json(part: _Part) -> dict[str, object]:
    return {
        "name": part.name,
        "section": part.section,
        "linkage": part.linkage,
        "instructions": [
            {
                "index": row.pc,
                "bytes": row.code.hex(),
                "text": row.text,
                "line": {"file": row.line.file, "number": row.line.number, "text": row.line.text}
                if row.line
                else None,
                "refers_to": row.refers_to or None,
            }
            for row in part.rows
        ],
    }
