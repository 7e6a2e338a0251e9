# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A program with its declarations as assembler text, which the assembler turns back into it.

Owns the layout: declarations first, labels where jumps go to, lines of C as comments. The words of
one instruction are harness.bpf.disasm's.
"""

from collections.abc import Iterator, Sequence

from harness.bpf import declared, disasm, isa, opcodes
from harness.bpf.declare import Unit
from harness.bpf.declared import Declarations, Globals, Map, Member, Prototype, Struct
from harness.bpf.helper_names import NUMBERS, name_of
from harness.bpf.isa import Insn
from harness.bpf.mapdef import MapType
from harness.bpf.program import Program, RefKind
from harness.bpf.writebtf import KFUNCS

_JUMPS = frozenset({"jump", "far"})
_INDENT = "        "


def render(unit: Unit, comments: Sequence[str] = ()) -> str:
    """The whole text; `comments` are lines in front of it."""
    program = unit.program
    lines = [f"; {comment}".rstrip() for comment in comments]
    lines += [f".section {program.section}", f".license {unit.declared.license}"]
    if program.exception_callback is not None:
        lines.append(f".callback {program.functions[program.exception_callback].name}")
    lines += _declarations(needed(unit))
    labels = _labels(program)
    for function in program.functions:
        lines += ["", *_function(unit, function.name, function.linkage, function.start)]
        before = None
        for pc in disasm.starts(program.insns, function.start, function.end):
            line = program.lines.get(pc)
            if line is not None and line.text and line != before:
                lines.append(f"; {line.text}  @ {line.file.rpartition('/')[2]}:{line.number}")
                before = line
            if pc in labels:
                lines.append(f"{labels[pc]}:")
            lines.append(_INDENT + _instruction(program, pc, labels))
    return "\n".join(lines) + "\n"


def needed(unit: Unit) -> Declarations:
    """The declarations that the program refers to."""
    by_kind: dict[RefKind, set[str]] = {kind: set() for kind in RefKind}
    for ref in unit.program.refs.values():
        by_kind[ref.kind].add(ref.name)
    return declared.keep(
        unit.declared,
        maps=by_kind[RefKind.MAP],
        sections=by_kind[RefKind.GLOBAL],
        externs=by_kind[RefKind.KFUNC] | by_kind[RefKind.EXTERN],
        functions={function.name for function in unit.program.functions},
        structs=by_kind[RefKind.TYPE],
    )


# ---- declarations -------------------------------------------------------------------------------


def _declarations(found: Declarations) -> Iterator[str]:
    for struct in found.structs.values():
        yield from _struct(struct)
    for each in found.inner.values():
        yield _map(".inner", each)
    for each in found.maps.values():
        yield _map(".map", each)
    for section in found.sections.values():
        yield from _globals(section)
    for extern in found.externs.values():
        if KFUNCS.get(extern.name) != extern.type or extern.weak:
            weak = "weak " if extern.weak else ""
            at = _arguments_at(extern.type)
            yield f".extern {weak}{extern.type[:at]} {extern.name}{extern.type[at:]}"


# Where the arguments of a function's type begin; behind the end where it is no function.
def _arguments_at(text: str) -> int:
    if not text.endswith(")"):
        return len(text)
    depth = 0
    for at in range(len(text) - 1, -1, -1):
        depth += (text[at] == ")") - (text[at] == "(")
        if not depth:
            return at
    return 0


def _struct(struct: Struct) -> Iterator[str]:
    yield f".{struct.kind} {struct.name} {struct.size_bytes}"
    yield from (f".tag {tag}" for tag in struct.tags)
    for member in struct.members:
        yield from _member(".member", member)


def _member(directive: str, member: Member) -> Iterator[str]:
    yield f"{directive} {member.offset} {member.type} {member.name}".rstrip()
    yield from (f".tag {tag}" for tag in member.tags)


def _map(directive: str, each: Map) -> str:
    words = [directive, each.name, MapType(each.type).name.lower()]
    words += [f"key {each.key}"] if each.key else []
    words += [f"value {each.value}"] if each.value else []
    words += [f"entries {each.entries}"] if each.entries else []
    words += [f"flags {each.flags:#x}"] if each.flags else []
    words += [f"extra {each.extra}"] if each.extra else []
    return " ".join([*words, *([f"of {each.of}"] if each.of else [])])


def _globals(section: Globals) -> Iterator[str]:
    content = section.data.rstrip(b"\0").hex()
    yield f".globals {section.name} {len(section.data)} {content}".rstrip()
    for variable in section.variables:
        yield from _member(".variable", variable)


# ---- code ---------------------------------------------------------------------------------------


def _function(unit: Unit, name: str, linkage: str, start: int) -> Iterator[str]:
    usual = Prototype("int(u64)" if linkage == "global" and start else "int()")
    found = unit.declared.prototypes.get(name, usual)
    words = [".func", name]
    told = found.type != usual.type or found.argument_tags or found.tags
    if linkage != "static" or told:
        words.append(linkage)
    if told:
        words.append(found.type)
    yield " ".join(words)
    yield from (f".tag {tag}" for tag in found.tags)
    yield from (f".argument {number + 1} {tag}" for number, tag in found.argument_tags)


def _target(insns: Sequence[Insn], pc: int) -> int | None:
    """Where a jump goes, or None for what is none."""
    form = opcodes.find(insns[pc])
    if form is None:
        return None
    if "{far}" in form.syntax:
        return pc + 1 + insns[pc].imm
    return pc + 1 + insns[pc].off if "{jump}" in form.syntax else None


def _labels(program: Program) -> dict[int, str]:
    """A label for each place that a jump leads to, in their order."""
    taken = {function.name for function in program.functions}
    places = set()
    for pc in disasm.starts(program.insns):
        target = _target(program.insns, pc)
        if target is not None and 0 <= target < len(program.insns):
            places.add(target)
    names = (name for i in range(1, 1 << 30) if (name := f"l{i}") not in taken)
    return dict(zip(sorted(places), names, strict=False))


def _instruction(program: Program, pc: int, labels: dict[int, str]) -> str:
    insns, ref = program.insns, program.refs.get(pc)
    insn = insns[pc]
    if ref is not None and ref.kind is RefKind.TYPE:
        return f"r{insn.dst} = type[{ref.name}]"
    if ref is not None:
        return disasm.text(insns, pc, disasm.linked_names(program))
    if insn.is_call and insn.src == isa.PSEUDO_CALL:
        name = next((f.name for f in program.functions if f.start == pc + 1 + insn.imm), "")
        return f"call {name}" if name else disasm.source(insns, pc)
    helper = name_of(insn.imm) if insn.is_call and insn.src == isa.HELPER_CALL else None
    if helper in NUMBERS:
        return f"call {helper}"
    target = _target(insns, pc)
    form = opcodes.find(insn)
    if target in labels and form is not None:
        slots = disasm.KERNEL | dict.fromkeys(_JUMPS, lambda _insn, _high: labels[target])
        return disasm.fill(form.syntax, insn, 0, slots)
    return disasm.source(insns, pc)
