# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow asm`: assembler text to instructions: hex, bare bytes, an object, or JSON.

Owns its options and output. The language is harness.bpf.asm's.
"""

import argparse
import json
import sys
from pathlib import Path

from harness.bpf import disasm, isa, reserved
from harness.bpf.asm import DIALECTS, RAW, assemble_unit
from harness.bpf.declared import Declarations
from harness.bpf.program import Program
from harness.bpf.writeelf import write_object
from harness.errors import Exit, UsageError
from harness.reading import read_asked, require_size

# a text of a million instructions is smaller
MAX_TEXT_BYTES = 64 << 20
_FIX = "give a file of assembler text, or '-' for standard input"
_EPILOG = """examples:
  bpfthrow asm prog.s                        hex, one instruction a line
  bpfthrow asm prog.s -o prog.bin            bare bytes
  bpfthrow asm prog.s -o prog.bpf.o          an object that libbpf loads
  bpfthrow asm prog.s --check 6.12           would 6.12 take each instruction by itself?
  echo 'r0 = 0; exit' | tr ';' '\\n' | bpfthrow asm -

the language: what `bpfthrow disasm` prints, with labels (`out:`), `.func NAME [global]`,
`.section NAME`, `.callback NAME`, `.insn OPCODE, DST, SRC, OFF, IMM`, and declarations of maps,
types, globals and kernel functions (`.map`, `.struct`, `.globals`, `.extern`); see
docs/instructions.md

exit codes: 0 good, 1 --check found something, 2 wrong usage or a mistake in FILE
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `asm` command."""
    parser = subparsers.add_parser(
        "asm",
        help="assemble instructions",
        description="Assemble text in the verifier's syntax.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="text to assemble; '-' reads standard input")
    add("-o", dest="out", metavar="OUT",
        help="write bare bytes there, or an object where the name ends in .o")  # fmt: skip
    add("--dialect", choices=DIALECTS, default="kernel",
        help="what `r1 = 0x5` is: a wide load (kernel) or a move (llvm)")  # fmt: skip
    add("--check", metavar="KERNEL", help="say what this kernel does not take, as in 6.12")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the command. Raises UsageError for the caller's mistakes."""
    kernel = _release(args.check) if args.check is not None else None
    name = "<stdin>" if args.file == "-" else args.file
    program, declared = assemble_unit(_read(args.file), file=name, dialect=args.dialect)
    found = list(reserved.problems(program.insns, kernel, strict=True)) if kernel else []
    if args.out is not None:
        whole = args.out.endswith(".o")
        _write(args.out, _object(program, declared) if whole else isa.encode(program.insns))
    if args.json:
        print(json.dumps(_json(program) | {"problems": [str(p) for p in found]}, indent=2))
    elif args.out is None:
        print("\n".join(_rows(program)))
    if not args.json:
        for problem in found:
            print(f"bpfthrow: {name}: {problem}", file=sys.stderr)
    return Exit.DIFFERENCE if found else Exit.OK


def object_from(file: str) -> bytes:
    """The object of a file of assembler text. UsageError with line and column for its mistakes."""
    return _object(*assemble_unit(_read(file), file=Path(file).name))


def _object(program: Program, declared: Declarations) -> bytes:
    if program.section == RAW:
        raise UsageError(
            "an object needs to know what kind of program it holds",
            fix="put a line like `.section tc` or `.section xdp` in front",
        )
    return write_object(program, declared=declared)


def _release(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    if not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise UsageError(f"--check {text}: no kernel release", fix="as in --check 6.12")
    return tuple(int(part) for part in parts)


def _read(file: str) -> str:
    if file == "-":
        data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
        require_size(data, MAX_TEXT_BYTES, "<stdin>", _FIX)
    else:
        data = read_asked(file, MAX_TEXT_BYTES, _FIX)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file}: not text (byte {error.start})", fix="`bpfthrow disasm` reads objects"
        ) from error


def _write(out: str, code: bytes) -> None:
    try:
        Path(out).write_bytes(code)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{out}: cannot be written: {reason}") from error


def _rows(program: Program) -> list[str]:
    names, rows = disasm.linked_names(program), []
    for pc in disasm.starts(program.insns):
        size = 2 if program.insns[pc].code == isa.LD_IMM64 else 1
        slots = [isa.encode((insn,)).hex() for insn in program.insns[pc : pc + size]]
        words = disasm.text(program.insns, pc, names)
        rows += [f"{slots[0]}  # {words}", *slots[1:]]
    return rows


def _json(program: Program) -> dict[str, object]:
    return {
        "name": program.name,
        "section": program.section,
        "bytes": isa.encode(program.insns).hex(),
        "functions": [
            {"name": f.name, "start": f.start, "end": f.end, "linkage": f.linkage}
            for f in program.functions
        ],
        "exception_callback": program.exception_callback,
        "refers_to": [
            {"index": pc, "kind": str(ref.kind), "name": ref.name, "offset": ref.offset}
            for pc, ref in sorted(program.refs.items())
        ],
    }
