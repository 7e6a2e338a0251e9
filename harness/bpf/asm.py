# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Assembler text to a linked program.

Owns statements: labels, functions, directives, and the numbers that names become. Reads what
`bpfthrow disasm`, `bpftool prog dump xlated` and `llvm-objdump` print:

    .section tc                  # of the program; else "raw"
    .callback handler            # exception callback of the program
    .func handler global         # where a function starts; linkage static unless told
        r0 = *(u64 *)(r1 +8)     ; comments: ; or // to the end, # for a whole line
        if r1 s> 5 goto out
        call bpf_throw           # helper, label or kernel function
    out: exit
    .insn 0x07, 1, 0, 0, 5       # raw slot: opcode, dst, src, off, imm

What is declared around the instructions (maps, types, ...) is harness.bpf.asm_declare's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from harness.bpf import asm_declare, isa
from harness.bpf.asm_declare import Declaring
from harness.bpf.asm_grammar import Reading, read
from harness.bpf.asm_operands import Draft, make
from harness.bpf.asm_words import NAME, NUMBER, Where, Word, split
from harness.bpf.btfext import Line
from harness.bpf.declared import Declarations
from harness.bpf.isa import Insn
from harness.bpf.link import LinkedFunction, Program, Ref, RefKind
from harness.errors import UsageError

DIALECTS = ("kernel", "llvm")
# section of a program that names none
RAW = "raw"
# limit of the kernel, BPF_COMPLEXITY_LIMIT_INSNS
MAX_INSNS = 1_000_000
# index and opcode, as listings have them in front
_LISTED = re.compile(r"\s*(?:\d+:\s+)?(?:\(([0-9a-fA-F]{2})\)\s)?")
_LABEL = re.compile(r"\s*([A-Za-z_.$][\w.$]*):(?!\S)")
_FIELDS = ("opcode", "dst", "src", "off", "imm")
_RANGES = ((0, 0xFF), (0, 15), (0, 15), (-0x8000, 0x7FFF), (-0x8000_0000, 0x7FFF_FFFF))


@dataclass(slots=True)
class _Source:
    """What the lines said so far."""

    file: str
    dialect: str
    drafts: list[Draft] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    # starts of functions: index -> (name, linkage)
    functions: dict[int, tuple[str, str]] = field(default_factory=dict)
    section: str = RAW
    callback: tuple[str, Where, int] | None = None
    declared: Declaring = field(default_factory=Declaring)


def assemble(text: str, *, file: str = "<asm>", dialect: str = "kernel") -> Program:
    """Assemble a whole program; its first function is the program.

    In dialect "kernel", `r1 = 0x5` is a wide load and `r1 = 5` a move, as the kernel prints them;
    in "llvm" both are moves and `ll` marks a wide load. Raises UsageError with file, line and
    column.
    """
    return assemble_unit(text, file=file, dialect=dialect)[0]


def assemble_unit(
    text: str, *, file: str = "<asm>", dialect: str = "kernel"
) -> tuple[Program, Declarations]:
    """Assemble a whole program with what is declared around it, as an object file has it."""
    if dialect not in DIALECTS:
        raise UsageError(f"no dialect {dialect!r}", fix=f"dialects: {', '.join(DIALECTS)}")
    source = _Source(file, dialect)
    for number, line in enumerate(text.split("\n"), 1):
        _statement(source, Where(file, number, line.rstrip("\r")))
    if not source.drafts:
        raise UsageError(f"{file}: there are no instructions")
    if len(source.drafts) in source.functions:
        name = source.functions[len(source.drafts)][0]
        raise UsageError(f"{file}: function {name!r} has no code")
    return _finish(source), source.declared.finished()


def _statement(source: _Source, where: Where) -> None:
    if texts := asm_declare.text_directive(where.text):
        directive, rest = texts
        if directive == ".section":
            _section(source, where, rest)
        else:
            asm_declare.declare(source.declared, where, directive, rest)
        return
    at, opcode = 0, ""
    listed = _LISTED.match(where.text)
    if listed:
        at, opcode = listed.end(), listed[1] or ""
    while label := _LABEL.match(where.text, at):
        _label(source, where, label)
        at = label.end()
    words = split(where, at)
    if not words:
        return
    if words[0].text in _DIRECTIVES:
        _DIRECTIVES[words[0].text](source, where, words)
        return
    if words[0].text in asm_declare.DIRECTIVES:
        asm_declare.declare(source.declared, where, words[0].text, None)
        return
    if words[0].kind == NAME and words[0].text.startswith("."):
        known = ", ".join([".func", ".section", ".callback", ".insn", *asm_declare.DIRECTIVES])
        raise where.mistake(words[0].column, f"no directive {words[0].text!r}; there are {known}")
    draft = _choose(source, where, read(where, words))
    if opcode and int(opcode, 16) != draft.insn.code:
        raise where.mistake(
            listed.start(1) + 1 if listed else 1,
            f"opcode {opcode} does not go with these words, which are {draft.insn.code:02x}",
        )
    _append(source, where, draft)


def _choose(source: _Source, where: Where, readings: list[Reading]) -> Draft:
    """Where a move and a wide load have the same words, the dialect and the number decide."""
    by_name = {reading.form.name: reading for reading in readings}
    if by_name.keys() == {"mov64", "lddw"}:
        word = by_name["lddw"].slots["wide"]
        fits = -(1 << 31) <= word.value < 1 << 31
        kernel = source.dialect == "kernel"
        name = "lddw" if kernel and (word.is_hex or not fits) else "mov64"
        return make(where, by_name[name])
    fitting = (r for r in readings if _registers_fit(r))
    return make(where, next(fitting, readings[0]))


def _registers_fit(reading: Reading) -> bool:
    for field_name in ("dst", "src"):
        allowed, word = getattr(reading.form, field_name), reading.slots.get(field_name)
        if word is not None and allowed is not None and word.value not in allowed:
            return False
    return True


def _append(source: _Source, where: Where, draft: Draft) -> None:
    if len(source.drafts) + 2 > MAX_INSNS:
        raise where.mistake(1, f"more than {MAX_INSNS} instructions")
    source.drafts.append(draft)
    if draft.high is not None:
        source.drafts.append(Draft(Insn(0, 0, 0, 0, draft.high), where))


def _label(source: _Source, where: Where, label: re.Match[str]) -> None:
    name = label[1]
    if name in source.labels:
        raise where.mistake(label.start(1) + 1, f"label {name!r} is there already")
    source.labels[name] = len(source.drafts)


# ---- directives -------------------------------------------------------------------------------


def _func(source: _Source, where: Where, words: list[Word]) -> None:
    name = _name(where, words, "the name of a function")
    linkage = words[2].text if len(words) > 2 else "static"
    if linkage not in ("static", "global"):
        raise where.mistake(words[2].column, f"expected 'static' or 'global', not {linkage!r}")
    pc = len(source.drafts)
    if name.text in source.labels:
        raise where.mistake(name.column, f"label {name.text!r} is there already")
    if pc in source.functions:
        raise where.mistake(name.column, f"function {source.functions[pc][0]!r} has no code")
    source.labels[name.text] = pc
    source.functions[pc] = (name.text, linkage)
    asm_declare.function(source.declared, where, name.text, words[3:])


def _section(source: _Source, where: Where, text: str) -> None:
    if not text:
        raise where.mistake(len(where.text) + 1, "expected the name of a section")
    source.section = text


def _callback(source: _Source, where: Where, words: list[Word]) -> None:
    name = _name(where, words, "the name of a function")
    source.callback = (name.text, where, name.column)


def _insn(source: _Source, where: Where, words: list[Word]) -> None:
    given = words[1:]
    for index, word in enumerate(given):
        wanted = NUMBER if index % 2 == 0 else ","
        if word.kind != wanted:
            raise where.mistake(word.column, f"expected {wanted!r}, not {word.text!r}")
    numbers = given[::2]
    if len(given) != 9:
        raise where.mistake(words[0].column, f".insn takes {', '.join(_FIELDS)}")
    for name, word, (low, high) in zip(_FIELDS, numbers, _RANGES, strict=True):
        if not low <= word.value <= high:
            raise where.mistake(word.column, f"{name} must be {low} to {high}, not {word.value}")
    code, dst, src, off, imm = (word.value for word in numbers)
    _append(source, where, Draft(Insn(code, dst, src, off, imm), where))


def _name(where: Where, words: list[Word], what: str) -> Word:
    if len(words) < 2:
        raise where.mistake(len(where.text) + 1, f"expected {what}")
    if words[1].kind != NAME:
        raise where.mistake(words[1].column, f"expected {what}, not {words[1].text!r}")
    return words[1]


_DIRECTIVES = {".func": _func, ".callback": _callback, ".insn": _insn}


# ---- numbers for names ------------------------------------------------------------------------


def _finish(source: _Source) -> Program:
    refs: dict[int, Ref] = {}
    insns = []
    for pc, draft in enumerate(source.drafts):
        insns.append(_resolved(source, pc, draft, refs))
    starts = _starts(source, insns)
    ends = [*starts[1:], len(insns)]
    names = {pc: name for name, pc in reversed(source.labels.items())} | {
        pc: name for pc, (name, _) in source.functions.items()
    }
    functions = tuple(
        LinkedFunction(
            names.get(pc) or _free_name(source, pc), pc, end,
            source.functions.get(pc, ("", "global" if pc == 0 else "static"))[1],
        )
        for pc, end in zip(starts, ends, strict=True)
    )  # fmt: skip
    callback = None
    if source.callback is not None:
        pc = _labelled(source, *source.callback)
        callback = next((i for i, f in enumerate(functions) if f.start == pc), None)
    named = {function.start: function.name for function in functions}
    for pc, ref in refs.items():
        if ref.kind is RefKind.FUNCTION:
            start = source.labels[ref.name]
            refs[pc] = replace(ref, name=named[start], offset=start)
    return Program(
        name=functions[0].name, section=source.section, insns=tuple(insns), functions=functions,
        refs=refs, lines=_lines(source), exception_callback=callback,
    )  # fmt: skip


# A name for a function that has no label.
def _free_name(source: _Source, pc: int) -> str:
    name = "main" if pc == 0 else f"sub_{pc}"
    while name in source.labels:
        name += "_"
    return name


def _resolved(source: _Source, pc: int, draft: Draft, refs: dict[int, Ref]) -> Insn:
    insn, word = draft.insn, draft.name
    if word is None:
        return insn
    if draft.kind == "call":
        if word.text not in source.labels:
            refs[pc] = Ref(RefKind.KFUNC, word.text)
            return replace(insn, src=isa.PSEUDO_KFUNC_CALL)
        return replace(insn, src=isa.PSEUDO_CALL, imm=source.labels[word.text] - pc - 1)
    if draft.kind in ("jump", "far", "function"):
        target = _labelled(source, word.text, draft.where, word.column)
        distance = target - pc - 1
        if draft.kind != "jump":
            if draft.kind == "function":
                refs[pc] = Ref(RefKind.FUNCTION, word.text)
            return replace(insn, imm=distance)
        if not -0x8000 <= distance <= 0x7FFF:
            raise draft.where.mistake(
                word.column, f"{word.text} is {distance} instructions away: too far for 16 bits",
                fix="gotol reaches further",
            )  # fmt: skip
        return replace(insn, off=distance)
    kinds = {
        "map": RefKind.MAP, "value": RefKind.GLOBAL, "extern": RefKind.EXTERN,
        "type": RefKind.TYPE,
    }  # fmt: skip
    offset = draft.high or 0 if draft.kind == "value" else 0
    name = f"struct {word.text}" if draft.kind == "type" else word.text
    refs[pc] = Ref(kinds[draft.kind], name, offset)
    return insn


def _labelled(source: _Source, name: str, where: Where, column: int) -> int:
    if name not in source.labels:
        raise where.mistake(column, f"there is no label {name!r}")
    pc = source.labels[name]
    if pc == len(source.drafts):
        raise where.mistake(column, f"there is no instruction at label {name!r}")
    return pc


def _starts(source: _Source, insns: list[Insn]) -> list[int]:
    """Where functions begin: at .func, and where calls and addresses of code lead to."""
    found = {0, *(pc for pc in source.functions if pc < len(insns))}
    found.update(pc for pc in _targets(insns) if 0 <= pc < len(insns))
    if source.callback is not None:
        found.add(_labelled(source, *source.callback))
    return sorted(found)


def _targets(insns: list[Insn]) -> Iterator[int]:
    for pc, insn in enumerate(insns):
        if (insn.code, insn.src) in isa.LEADS_TO_CODE:
            yield pc + 1 + insn.imm


def _lines(source: _Source) -> dict[int, Line]:
    lines = {}
    for pc, draft in enumerate(source.drafts):
        if pc == 0 or source.drafts[pc - 1].where is not draft.where:
            lines[pc] = Line(draft.where.file, draft.where.number, draft.where.text.strip())
    return lines
