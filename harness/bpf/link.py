# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Link one program of an object into a flat list of instructions, as libbpf >= 1.3 does.

Owns the order of subprograms and what each relocated instruction refers to. Source:
bpf_object__relocate_calls, bpf_object__append_subprog_code and bpf_prog_assign_exc_cb in
tools/lib/bpf/libbpf.c. Knows no map, no memory and no kernel: references stay names.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.bpf import isa
from harness.bpf.isa import INSN_BYTES, Insn
from harness.errors import ObjectError

# what executes a linked program must not pay for the readers of files: bpfthrow-plugin starts
# once for every test
if TYPE_CHECKING:
    from harness.bpf.btf import Line
    from harness.bpf.btf import Relocation as CoreRelocation
    from harness.bpf.elf import Function, Object
    from harness.bpf.rawelf import Relocation, Symbol

_R_64_64 = 1
_R_64_32 = 10


class RefKind(StrEnum):
    """What a relocated instruction refers to."""

    MAP = "map"  # address of a map
    GLOBAL = "global"  # section of globals, plus offset
    FUNCTION = "function"  # address of a subprogram, for a callback
    KFUNC = "kfunc"  # call of a kernel function
    EXTERN = "extern"  # address or value of an undefined symbol


@dataclass(frozen=True, slots=True)
class Ref:
    """The target of one instruction."""

    kind: RefKind
    # map, section, function or symbol
    name: str
    # byte offset into a section of globals
    offset: int = 0
    # of an extern: a weak one may be absent
    weak: bool = False


@dataclass(frozen=True, slots=True)
class LinkedFunction:
    """One function of a linked program; its instructions are [start, end)."""

    name: str
    start: int
    end: int
    linkage: str


@dataclass(frozen=True, slots=True)
class Program:
    """One program with everything it calls; calls between functions are resolved."""

    name: str
    # section, "?" included
    section: str
    insns: tuple[Insn, ...] = field(repr=False)
    # functions[0] is the program itself
    functions: tuple[LinkedFunction, ...]
    # instruction index -> what it refers to
    refs: dict[int, Ref] = field(repr=False)
    # instruction index -> source line that starts there
    lines: dict[int, Line] = field(repr=False)
    # index in `functions`, or None for the default callback
    exception_callback: int | None = None
    # instruction index -> CO-RE relocation, not applied
    core: dict[int, CoreRelocation] = field(repr=False, default_factory=dict)

    def function_at(self, pc: int) -> LinkedFunction:
        """Function that holds instruction `pc`."""
        return next(f for f in self.functions if f.start <= pc < f.end)

    def line_at(self, pc: int) -> Line | None:
        """Source line of instruction `pc`: the nearest one at or before it in its function."""
        start = self.function_at(pc).start
        return next((self.lines[i] for i in range(pc, start - 1, -1) if i in self.lines), None)


@dataclass(slots=True)
class _Draft:
    """The program while functions are being appended."""

    obj: Object
    program: Function
    insns: list[Insn] = field(default_factory=list)
    # (section, offset) -> first instruction
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    functions: list[LinkedFunction] = field(default_factory=list)
    refs: dict[int, Ref] = field(default_factory=dict)
    lines: dict[int, Line] = field(default_factory=dict)
    core: dict[int, CoreRelocation] = field(default_factory=dict)


def link(obj: Object, program_name: str) -> Program:
    """Link `program_name` of `obj`.

    Raises ObjectError: no such program, a call to nowhere, an unknown relocation, a callback tag
    that libbpf refuses.
    """
    program = obj.program(program_name)
    draft = _Draft(obj, program)
    _append(draft, program)
    callback = _append_exception_callback(draft)
    return Program(
        name=program.name,
        section=program.section,
        insns=tuple(draft.insns),
        functions=tuple(draft.functions),
        refs=draft.refs,
        lines=draft.lines,
        exception_callback=callback,
        core=draft.core,
    )


def _append(draft: _Draft, function: Function) -> None:
    """Copy one function's code to the end, then what it calls, depth first."""
    start = len(draft.insns)
    draft.starts[function.section, function.offset] = start
    code = draft.obj.text[function.section]
    body = isa.decode(code[function.offset : function.offset + function.size_bytes])
    draft.insns.extend(body)
    end = len(draft.insns)
    draft.functions.append(LinkedFunction(function.name, start, end, function.linkage))
    _copy_ext(draft, function, start)
    relocations = {
        r.offset: r
        for r in draft.obj.relocations.get(function.section, ())
        if function.offset <= r.offset < function.offset + function.size_bytes
    }
    for index, insn in enumerate(body):
        relocation = relocations.get(function.offset + index * INSN_BYTES)
        _resolve(draft, function, start + index, insn, relocation)


def _copy_ext(draft: _Draft, function: Function, start: int) -> None:
    ext = draft.obj.ext
    for source, target in ((ext.lines, draft.lines), (ext.core, draft.core)):
        for offset, value in source.get(function.section, {}).items():
            if function.offset <= offset < function.offset + function.size_bytes:
                target[start + (offset - function.offset) // INSN_BYTES] = value  # type: ignore[assignment]


def _resolve(
    draft: _Draft, function: Function, pc: int, insn: Insn, relocation: Relocation | None
) -> None:
    if relocation is None:
        if insn.is_call and insn.src == isa.PSEUDO_CALL:
            offset = function.offset + (pc - draft.starts[function.section, function.offset]) * 8
            _call(draft, function, pc, (function.section, offset + (insn.imm + 1) * INSN_BYTES))
        return
    if relocation.type == _R_64_32:
        _resolve_call(draft, function, pc, relocation)
    elif relocation.type == _R_64_64 and insn.code == isa.LD_IMM64:
        _resolve_address(draft, function, pc, relocation)
    else:
        raise ObjectError(
            f"{_where(draft, function)}: relocation type {relocation.type} at instruction {pc}"
        )


def _resolve_call(draft: _Draft, function: Function, pc: int, relocation: Relocation) -> None:
    symbol, insn = relocation.symbol, draft.insns[pc]
    if symbol.section == 0:
        draft.insns[pc] = dataclasses.replace(insn, src=isa.PSEUDO_KFUNC_CALL, off=0, imm=0)
        weak = symbol.binding == "STB_WEAK"
        draft.refs[pc] = Ref(RefKind.KFUNC, symbol.name, weak=weak)
        return
    offset = symbol.offset + (insn.imm + 1) * INSN_BYTES
    _call(draft, function, pc, (_section_of(draft, function, symbol), offset))


def _resolve_address(draft: _Draft, function: Function, pc: int, relocation: Relocation) -> None:
    symbol, insn = relocation.symbol, draft.insns[pc]
    if symbol.section == 0:
        weak = symbol.binding == "STB_WEAK"
        draft.refs[pc] = Ref(RefKind.EXTERN, symbol.name, weak=weak)
        return
    section = _section_of(draft, function, symbol)
    if section == ".maps":
        draft.refs[pc] = Ref(RefKind.MAP, _map_name(draft, function, relocation, insn.imm))
        draft.insns[pc] = dataclasses.replace(insn, src=isa.PSEUDO_MAP_FD)
    elif section in draft.obj.text:
        target = _subprogram(draft, function, (section, symbol.offset + insn.imm))
        draft.refs[pc] = Ref(RefKind.FUNCTION, target.name)
        draft.insns[pc] = dataclasses.replace(insn, src=isa.PSEUDO_FUNC)
    elif draft.obj.data_section(section) is not None:
        draft.refs[pc] = Ref(RefKind.GLOBAL, section, symbol.offset + insn.imm)
        draft.insns[pc] = dataclasses.replace(insn, src=isa.PSEUDO_MAP_VALUE)
    else:
        raise ObjectError(
            f"{_where(draft, function)}: instruction {pc} refers to section {section!r}, "
            "which libbpf does not load"
        )


def _map_name(draft: _Draft, function: Function, relocation: Relocation, addend: int) -> str:
    """A static map is only named by its place in the section."""
    offset = relocation.symbol.offset + addend
    found = next((m for m in draft.obj.maps if m.offset == offset), None)
    if found is None:
        raise ObjectError(f"{_where(draft, function)}: no map at byte {offset} of section .maps")
    return found.name


def _section_of(draft: _Draft, function: Function, symbol: Symbol) -> str:
    names = draft.obj.section_names
    if not 0 <= symbol.section < len(names):
        raise ObjectError(f"{_where(draft, function)}: symbol {symbol.name!r} is in no section")
    return names[symbol.section]


def _call(draft: _Draft, function: Function, pc: int, target: tuple[str, int]) -> None:
    callee = _subprogram(draft, function, target)
    start = draft.starts[callee.section, callee.offset]
    draft.insns[pc] = dataclasses.replace(draft.insns[pc], src=isa.PSEUDO_CALL, imm=start - pc - 1)


def _subprogram(draft: _Draft, caller: Function, target: tuple[str, int]) -> Function:
    """The function at `target`, appended to the program when it is not there yet."""
    section, offset = target
    found = next(
        (f for f in draft.obj.functions if f.section == section and f.offset == offset), None
    )
    if found is None:
        raise ObjectError(
            f"{_where(draft, caller)}: no subprogram at byte {offset} of section {section!r}"
        )
    if target not in draft.starts:
        _append(draft, found)
    return found


def _append_exception_callback(draft: _Draft) -> int | None:
    """bpf_prog_assign_exc_cb: after everything the program calls. Two tags: none is assigned."""
    where = _where(draft, draft.program)
    names = draft.program.exception_callbacks
    if len(names) != 1:
        return None
    (name,) = names
    if not name:
        raise ObjectError(f"{where}: exception_callback decl tag contains empty value")
    found = next((f for f in draft.obj.functions if f.name == name), None)
    if found is None:
        raise ObjectError(f"{where}: cannot find exception callback {name!r}")
    if found.linkage != "global":
        raise ObjectError(
            f"{where}: exception callback {name} must be a global non-hidden function"
        )
    if (found.section, found.offset) not in draft.starts:
        _append(draft, found)
    return next(i for i, f in enumerate(draft.functions) if f.name == name)


def _where(draft: _Draft, function: Function) -> str:
    return f"{draft.obj.path}: program {draft.program.name!r}, function {function.name!r}"
