# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Link one program of an object into a flat list of instructions, as libbpf >= 1.3 does.

Owns the order of subprograms and what each relocated instruction refers to. Source:
bpf_program__record_reloc, bpf_object__reloc_code, bpf_object__relocate_data and
bpf_prog_assign_exc_cb in tools/lib/bpf/libbpf.c (1.5). Knows no map and no memory: references stay
names, and a reference's number in the instruction (map fd) stays 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from harness.bpf import isa
from harness.bpf.isa import INSN_BYTES, Insn
from harness.bpf.program import LinkedFunction, Program, Ref, RefKind
from harness.errors import ObjectError

# what executes a linked program must not pay for the readers of files: bpfthrow-plugin starts
# once for every test
if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.bpf.btfext import CoreRelocation, Line
    from harness.bpf.elf import Function, Object
    from harness.bpf.environment import Environment
    from harness.bpf.rawelf import Relocation, Symbol
    from harness.bpf.resolve import Symbol as ExternSymbol

__all__ = ["KCONFIG", "LinkedFunction", "Program", "Ref", "RefKind", "link"]

T = TypeVar("T")
_TEXT = ".text"
# BPF_COMPLEXITY_LIMIT_INSNS, the most that BPF_PROG_LOAD takes
MAX_INSNS = 1_000_000
_R_64_64 = 1
_R_64_32 = 10
KCONFIG = ".kconfig"


@dataclass(slots=True)
class _Draft:
    """The program while functions are being appended."""

    obj: Object
    program: Function
    environment: Environment
    # (section, offset) -> function: where calls may go
    subprograms: dict[tuple[str, int], Function]
    # byte in section .maps -> map; names of the sections of globals
    maps: dict[int, str] = field(default_factory=dict)
    sections: set[str] = field(default_factory=set)
    insns: list[Insn] = field(default_factory=list)
    # (section, offset) -> first instruction
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    functions: list[LinkedFunction] = field(default_factory=list)
    refs: dict[int, Ref] = field(default_factory=dict)
    lines: dict[int, Line] = field(default_factory=dict)
    poisoned: dict[int, str] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)
    externs: dict[str, ExternSymbol] = field(default_factory=dict)
    # section -> offset -> relocation, of the sections that were met
    relocations: dict[str, dict[int, Relocation]] = field(default_factory=dict)
    # functions whose instructions are not all resolved, the innermost last
    todo: list[_Pending] = field(default_factory=list)


@dataclass(slots=True)
class _Pending:
    """A function that was appended: its next instruction to resolve, and the relocations."""

    function: Function
    start: int
    pc: int
    relocations: dict[int, Relocation]


def link(obj: Object, program_name: str, environment: Environment | None = None) -> Program:
    """Link `program_name` of `obj` for a machine; without one nothing of a kernel is known.

    Raises ObjectError: no such program, a call to nowhere, an unknown relocation, a callback tag
    that libbpf refuses, a name that the kernel lacks.
    """
    from harness.bpf.environment import NOWHERE, kconfig_map  # noqa: PLC0415  # reads files

    program, machine = obj.program(program_name), environment or NOWHERE
    subprograms = {(f.section, f.offset): f for f in obj.functions}
    draft = _Draft(obj, program, machine, subprograms)
    draft.maps = {m.offset: m.name for m in obj.maps}
    draft.sections = {s.name for s in (*obj.sections, *filter(None, (obj.arena,)))}
    # libbpf resolves all of the object's externs, whichever program they are for
    kconfig = _named(draft, lambda: kconfig_map(obj.externs, machine))
    for place in range(len(obj.externs)):
        _extern(draft, place)
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
        poisoned=draft.poisoned,
        unknown=draft.unknown,
        kconfig=kconfig,
    )


def _append(draft: _Draft, function: Function) -> None:
    """Copy one function's code to the end, then what it calls, depth first.

    No recursion: the depth is the object's to choose.
    """
    _push(draft, function)
    while draft.todo:
        pending = draft.todo[-1]
        end = pending.start + pending.function.size_bytes // INSN_BYTES
        depth = len(draft.todo)
        while pending.pc < end and len(draft.todo) == depth:
            pc = pending.pc
            offset = pending.function.offset + (pc - pending.start) * INSN_BYTES
            # an instruction that appends a function is looked at again when that one is done
            if _resolve(draft, pending.function, pc, offset, pending.relocations.get(offset)):
                pending.pc += 1
        if len(draft.todo) == depth:
            draft.todo.pop()


def _push(draft: _Draft, function: Function) -> None:
    start = len(draft.insns)
    draft.starts[function.section, function.offset] = start
    code = draft.obj.text[function.section]
    end = function.offset + function.size_bytes
    if start + function.size_bytes // INSN_BYTES > MAX_INSNS:
        raise ObjectError(
            f"{_where(draft, function)}: more than {MAX_INSNS} instructions, which no kernel takes"
        )
    draft.insns.extend(isa.decode(code[function.offset : end]))
    draft.functions.append(LinkedFunction(function.name, start, len(draft.insns), function.linkage))
    lines = draft.obj.ext.lines.get(function.section, {})
    cores = draft.obj.ext.core.get(function.section, {})
    for offset in range(function.offset, end, INSN_BYTES):
        pc = start + (offset - function.offset) // INSN_BYTES
        if offset in lines:
            draft.lines[pc] = lines[offset]
        if offset in cores:
            _relocate_core(draft, function, pc, cores[offset])
    relocations = draft.relocations.get(function.section)
    if relocations is None:
        found = draft.obj.relocations.get(function.section, ())
        relocations = draft.relocations[function.section] = {r.offset: r for r in found}
    draft.todo.append(_Pending(function, start, start, relocations))


# ---- instructions -------------------------------------------------------------------------------


def _resolve(
    draft: _Draft, function: Function, pc: int, offset: int, relocation: Relocation | None
) -> bool:
    """Give an instruction its final form; False: what it needs was appended just now."""
    insn = draft.insns[pc]
    if relocation is None:
        if insn.is_call and insn.src == isa.PSEUDO_CALL:
            place = (function.section, offset + (insn.imm + 1) * INSN_BYTES)
            return _refer(draft, function, pc, place)
        return True
    symbol = relocation.symbol
    if relocation.type == _R_64_32 and insn.is_call:
        if _is_extern(symbol):
            _kernel_call(draft, pc, symbol.name)
            return True
        place = _text_place(draft, function, symbol, (insn.imm + 1) * INSN_BYTES)
        return _refer(draft, function, pc, place)
    if relocation.type == _R_64_64 and insn.code == isa.LD_IMM64 and pc + 1 < len(draft.insns):
        return _resolve_address(draft, function, pc, symbol)
    raise ObjectError(
        f"{_where(draft, function)}: relocation type {relocation.type} at instruction {pc}"
    )


def _is_extern(symbol: Symbol) -> bool:
    return symbol.section == 0 and symbol.binding != "STB_LOCAL"


def _text_place(draft: _Draft, function: Function, symbol: Symbol, add: int) -> tuple[str, int]:
    section = _section_of(draft, function, symbol)
    if section != _TEXT:
        raise ObjectError(
            f"{_where(draft, function)}: bad call relo against {symbol.name!r} in section "
            f"{section!r}",
            fix="subprograms must be in section .text: take SEC() off the function",
        )
    return section, symbol.offset + add


def _refer(draft: _Draft, function: Function, pc: int, place: tuple[str, int]) -> bool:
    """Let a call, or an address of a function, go to the subprogram at `place`."""
    callee = draft.subprograms.get(place)
    if callee is None:
        raise ObjectError(
            f"{_where(draft, function)}: no subprogram at byte {place[1]} of section {place[0]!r}"
        )
    if place not in draft.starts:
        _push(draft, callee)
        return False
    start, insn = draft.starts[place], draft.insns[pc]
    source = isa.PSEUDO_CALL if insn.is_call else isa.PSEUDO_FUNC
    if not insn.is_call:
        draft.refs[pc] = Ref(RefKind.FUNCTION, callee.name, start)
    draft.insns[pc] = dataclasses.replace(insn, src=source, imm=start - pc - 1)
    return True


def _resolve_address(draft: _Draft, function: Function, pc: int, symbol: Symbol) -> bool:
    if _is_extern(symbol):
        _kernel_address(draft, pc, symbol.name)
        return True
    section, insn = _section_of(draft, function, symbol), draft.insns[pc]
    if section == ".maps":
        name = _map_name(draft, function, symbol)
        draft.refs[pc] = Ref(RefKind.MAP, name)
        draft.insns[pc] = dataclasses.replace(insn, src=isa.PSEUDO_MAP_FD, imm=0)
    elif section in draft.obj.text:
        return _refer(draft, function, pc, (section, symbol.offset + insn.imm))
    elif section in draft.sections:
        _global(draft, pc, section, symbol.offset + insn.imm)
    else:
        raise ObjectError(
            f"{_where(draft, function)}: instruction {pc} refers to section {section!r}, "
            "which libbpf does not load"
        )
    return True


def _global(draft: _Draft, pc: int, section: str, offset: int) -> None:
    low, high = draft.insns[pc], draft.insns[pc + 1]
    draft.refs[pc] = Ref(RefKind.GLOBAL, section, offset)
    draft.insns[pc] = dataclasses.replace(low, src=isa.PSEUDO_MAP_VALUE, imm=0)
    draft.insns[pc + 1] = dataclasses.replace(high, imm=_signed32(offset))


def _map_name(draft: _Draft, function: Function, symbol: Symbol) -> str:
    """By the symbol's place, as libbpf does: its name does not matter."""
    if symbol.offset not in draft.maps:
        raise ObjectError(
            f"{_where(draft, function)}: no map at byte {symbol.offset} of section .maps"
        )
    return draft.maps[symbol.offset]


def _section_of(draft: _Draft, function: Function, symbol: Symbol) -> str:
    names = draft.obj.section_names
    if not 0 < symbol.section < len(names):
        raise ObjectError(
            f"{_where(draft, function)}: symbol {symbol.name!r} is in no section",
            fix="initialise the global variable",
        )
    return names[symbol.section]


# ---- the kernel's names -------------------------------------------------------------------------


def _extern(draft: _Draft, place: int) -> None:
    from harness.bpf.resolve import symbol  # noqa: PLC0415  # reads BTF

    found = _named(draft, lambda: symbol(draft.obj, place, draft.environment))
    draft.externs[draft.obj.externs[place].name] = found


def _known(draft: _Draft, name: str) -> ExternSymbol:
    if name not in draft.externs:
        where = _where(draft, draft.program)
        raise ObjectError(f"{where}: extern {name!r} is not declared in the object's types")
    return draft.externs[name]


def _kernel_call(draft: _Draft, pc: int, name: str) -> None:
    """A call of a kernel function; of a weak one that is absent: of a helper that is none."""
    from harness.bpf.resolve import absent_call  # noqa: PLC0415  # reads BTF

    found, insn = _known(draft, name), draft.insns[pc]
    if found.absent:
        draft.poisoned[pc] = f"kernel function {found.name} is not in the kernel's types"
        draft.insns[pc] = absent_call(found)
        return
    draft.insns[pc] = dataclasses.replace(
        insn, src=isa.PSEUDO_KFUNC_CALL, off=0, imm=found.btf_id or 0
    )
    draft.refs[pc] = Ref(RefKind.KFUNC, found.name, weak=found.weak, btf_id=found.btf_id)


def _kernel_address(draft: _Draft, pc: int, name: str) -> None:
    """The value of a Kconfig extern's address, or the address of something in the kernel."""
    found = _known(draft, name)
    insn, high = draft.insns[pc], draft.insns[pc + 1]
    if found.kconfig_offset is not None:
        _global(draft, pc, KCONFIG, found.kconfig_offset)
        if found.unknown:
            draft.unknown[pc] = f"{name}: {found.unknown}"
        return
    if not found.absent:
        draft.refs[pc] = Ref(RefKind.EXTERN, found.name, weak=found.weak, btf_id=found.btf_id)
    source = isa.PSEUDO_BTF_ID if found.btf_id and found.typed else insn.src
    value = found.btf_id if found.btf_id and found.typed else 0
    draft.insns[pc] = dataclasses.replace(insn, src=source, imm=value)
    draft.insns[pc + 1] = dataclasses.replace(high, imm=0)


def _relocate_core(draft: _Draft, function: Function, pc: int, relocation: CoreRelocation) -> None:
    from harness.bpf import core, corepatch  # noqa: PLC0415  # reads BTF

    def relocate() -> None:
        types, local = draft.environment.btf, draft.obj.btf
        if types is None and core.kind_of(relocation) not in core.WITHOUT_KERNEL:
            what = core.describe(relocation, local)
            draft.unknown[pc] = f"CO-RE relocation {what}: no types of a kernel are given"
            return
        if types is None and core.kind_of(relocation) is core.Relo.FIELD_BYTE_OFFSET:
            return
        result = core.resolve(relocation, local, types)
        new = corepatch.patch(draft.insns[pc : pc + 2], result)
        draft.insns[pc : pc + len(new)] = new
        if new[0].code == isa.CALL:
            what = core.describe(relocation, local)
            draft.poisoned[pc] = f"CO-RE relocation {what}: the kernel has nothing that fits"

    _named(draft, relocate, function)


# ---- the exception callback ---------------------------------------------------------------------


def _append_exception_callback(draft: _Draft) -> int | None:
    """bpf_prog_assign_exc_cb: after everything the program calls. Two tags: none is assigned."""
    where = _where(draft, draft.program)
    if any(f.exception_callbacks and f.linkage != "global" for f in draft.obj.functions):
        # of any function of the object
        raise ObjectError(f"{where}: exception_callback decl tag not applied to the main program")
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
    place = (found.section, found.offset)
    if place not in draft.starts:
        _append(draft, found)
    start = draft.starts[place]
    return next(i for i, f in enumerate(draft.functions) if f.start == start)


# ---- words --------------------------------------------------------------------------------------


def _named(draft: _Draft, work: Callable[[], T], function: Function | None = None) -> T:
    """Do the work; an error of it says in which program."""
    try:
        return work()
    except ObjectError as error:
        where = _where(draft, function or draft.program)
        words = error.message.removeprefix(f"{draft.obj.path}: ")
        raise ObjectError(f"{where}: {words}", fix=error.fix) from error


def _where(draft: _Draft, function: Function) -> str:
    return f"{draft.obj.path}: program {draft.program.name!r}, function {function.name!r}"


def _signed32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value
