# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The control-flow graph as exploration needs it: where states are compared, loops, live registers.

Nothing here rejects: that is harness.verify.structure's. Source: visit_insn(), bpf_compute_scc()
and compute_live_registers() in kernel/bpf (cfg.c, liveness.c of 7.3; verifier.c before).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from harness.bpf import isa
from harness.bpf.isa import ALU_OPS, ATOMIC_OPS, Class, Insn
from harness.bpf.program import RefKind

if TYPE_CHECKING:
    from harness.bpf.program import Program

_CALLER_SAVED: Final = 0b111111
_ARGUMENTS: Final = 0b111110
# helpers and kernel functions that call back before they return, and later
LOOP: Final = 181
LOOPING_HELPERS: Final = frozenset({164, 180, LOOP, 209})
LATE_HELPERS: Final = frozenset({170})
LOOPING_KFUNCS: Final = frozenset({"bpf_rbtree_add_impl", "bpf_rbtree_add"})
LATE_KFUNCS: Final = frozenset({
    "bpf_wq_set_callback_impl", "bpf_wq_set_callback", "bpf_task_work_schedule_signal",
    "bpf_task_work_schedule_resume", "bpf_task_work_schedule_signal_impl",
    "bpf_task_work_schedule_resume_impl",
})  # fmt: skip
THROW: Final = "bpf_throw"


@dataclass(slots=True)
class Flow:
    """Sets of instructions, and tables by instruction."""

    # where states are recorded and compared
    prune: set[int] = field(default_factory=set)
    # where one is always recorded
    force: set[int] = field(default_factory=set)
    # where paths meet: what precision looks back through
    jump: set[int] = field(default_factory=set)
    # calls that call back before they return
    calls_back: set[int] = field(default_factory=set)
    iter_next: set[int] = field(default_factory=set)
    # instruction -> number of its loop; absent: in none
    loop: dict[int, int] = field(default_factory=dict)
    # instruction -> bits of registers that are read later
    live: list[int] = field(default_factory=list)
    # function (index) -> whether it or what it calls has a bpf_throw that some jump leads to
    throws: list[bool] = field(default_factory=list)
    # the same for changing packet data
    moves_packet: list[bool] = field(default_factory=list)


def successors(program: Program, pc: int) -> tuple[int, ...]:
    """Instructions that may follow within the function; calls go on behind themselves."""
    insn = program.insns[pc]
    if insn.code == isa.LD_IMM64:
        return (pc + 2,)
    if insn.code == isa.EXIT:
        return ()
    if insn.code == isa.JA:
        return (pc + 1 + insn.off,)
    if insn.code == isa.JA32:
        return (pc + 1 + insn.imm,)
    if insn.code & 7 in (Class.JMP, Class.JMP32) and insn.code not in (isa.CALL, isa.CALLX):
        there, here = pc + 1 + insn.off, pc + 1
        return (here,) if there == here else (here, there)
    return (pc + 1,)


def flow_of(
    program: Program, changes_packet: frozenset[int], left: Program | None = None
) -> Flow:  # fmt: skip
    """All of it; `changes_packet`: helpers after which packet pointers are void.

    `left`: the program without the branches that were decided beforehand, for loops and live
    registers.
    """
    flow = Flow()
    nexts = [successors(program, pc) for pc in range(len(program.insns))]
    for pc, insn in enumerate(program.insns):
        _mark(flow, program, pc, insn)
    reached = _reached(program, nexts)
    pruned = left or program
    rest = [successors(pruned, pc) for pc in range(len(nexts))] if left else nexts
    _loops(flow, rest)
    flow.live = _live(pruned, rest)
    direct = [False] * len(program.functions), [False] * len(program.functions)
    edges: list[set[int]] = [set() for _ in program.functions]
    index = {f.start: i for i, f in enumerate(program.functions)}
    for number, function in enumerate(program.functions):
        for pc in range(function.start, function.end):
            if pc not in reached:
                continue
            insn, ref = program.insns[pc], program.refs.get(pc)
            if ref is not None and ref.kind is RefKind.KFUNC and ref.name == THROW:
                direct[0][number] = True
            if insn.code == isa.CALL and insn.src == 0 and insn.imm in changes_packet:
                direct[1][number] = True
            if (insn.code, insn.src) in isa.LEADS_TO_CODE and pc + 1 + insn.imm in index:
                edges[number].add(index[pc + 1 + insn.imm])
    flow.throws, flow.moves_packet = _merged(direct[0], edges), _merged(direct[1], edges)
    return flow


def _mark(flow: Flow, program: Program, pc: int, insn: Insn) -> None:
    prune, jump = flow.prune, flow.jump
    if insn.code == isa.LD_IMM64:
        if insn.src == isa.PSEUDO_FUNC:
            prune.update((pc, pc + 2, pc + 1 + insn.imm))
            jump.update((pc + 2, pc + 1 + insn.imm))
        return
    if insn.code == isa.EXIT or insn.code & 7 not in (Class.JMP, Class.JMP32):
        return
    if insn.code == isa.CALL:
        _mark_call(flow, program, pc, insn)
    elif insn.code in (isa.JA, isa.JA32):
        target = successors(program, pc)[0]
        prune.add(target)
        jump.add(target)
    else:
        prune.update((pc, pc + 1 + insn.off))
        jump.add(pc + 1 + insn.off)
        if insn.code == isa.MAY_GOTO:
            flow.force.add(pc)


def _mark_call(flow: Flow, program: Program, pc: int, insn: Insn) -> None:
    prune, jump = flow.prune, flow.jump
    prune.add(pc + 1)
    jump.add(pc + 1)
    if insn.src == isa.PSEUDO_CALL:
        prune.update((pc, pc + 1 + insn.imm))
        jump.add(pc + 1 + insn.imm)
        return
    ref = program.refs.get(pc)
    name = ref.name if ref is not None and ref.kind is RefKind.KFUNC else ""
    helper = insn.imm if insn.src == 0 and not name else 0
    if helper in LATE_HELPERS or name in LATE_KFUNCS:
        prune.add(pc)
    if helper in LOOPING_HELPERS or name in LOOPING_KFUNCS:
        flow.calls_back.add(pc)
        flow.force.add(pc)
        prune.add(pc)
        jump.add(pc)
    if name.startswith("bpf_iter_") and name.endswith("_next"):
        flow.iter_next.add(pc)
        flow.force.add(pc)
        prune.add(pc)


def _reached(program: Program, nexts: list[tuple[int, ...]]) -> set[int]:
    """By jumps from the functions' starts; whatever calls there are."""
    todo = [f.start for f in program.functions]
    seen = set(todo)
    while todo:
        for target in nexts[todo.pop()]:
            if target not in seen and 0 <= target < len(nexts):
                seen.add(target)
                todo.append(target)
    return seen


def _merged(direct: list[bool], edges: list[set[int]]) -> list[bool]:
    """What a function does, or one that it calls does."""
    found, changed = list(direct), True
    while changed:
        changed = False
        for number, callees in enumerate(edges):
            if not found[number] and any(found[callee] for callee in callees):
                found[number] = changed = True
    return found


def _loops(flow: Flow, nexts: list[tuple[int, ...]]) -> None:
    """Strongly connected components of more than one instruction, or with a jump to itself.

    Tarjan's algorithm without recursion.
    """
    count = len(nexts)
    order, low, on_stack = [0] * count, [0] * count, [False] * count
    stack: list[int] = []
    number = components = 0
    for root in range(count):
        work = [] if order[root] else [(root, 0)]
        while work:
            pc, place = work.pop()
            if not order[pc]:
                number += 1
                order[pc] = low[pc] = number
                stack.append(pc)
                on_stack[pc] = True
            descended = False
            for at in range(place, len(nexts[pc])):
                target = nexts[pc][at]
                if not 0 <= target < count:
                    continue
                if not order[target]:
                    work += [(pc, at), (target, 0)]
                    descended = True
                    break
                if on_stack[target]:
                    low[pc] = min(low[pc], low[target])
            if descended:
                continue
            if low[pc] == order[pc]:
                components += _close(flow, nexts, stack, on_stack, pc, components + 1)


def _close(
    flow: Flow, nexts: list[tuple[int, ...]], stack: list[int], on_stack: list[bool], pc: int,
    number: int,
) -> int:  # fmt: skip
    """Take a component off the stack; 1 when it is a loop."""
    loop = stack[-1] != pc or pc in nexts[pc] or pc in flow.calls_back
    while True:
        member = stack.pop()
        on_stack[member] = False
        if loop:
            flow.loop[member] = number
        if member == pc:
            return int(loop)


def _live(program: Program, nexts: list[tuple[int, ...]]) -> list[int]:
    """Registers that are read before they are written, from in front of each instruction."""
    count = len(nexts)
    effects = [_effect(insn) for insn in program.insns]
    before, changed = [0] * count, True
    while changed:
        changed = False
        for pc in range(count - 1, -1, -1):
            after = 0
            for target in nexts[pc]:
                if 0 <= target < count:
                    after |= before[target]
            reads, writes = effects[pc]
            live = after & ~writes | reads
            if live != before[pc]:
                before[pc] = live
                changed = True
    return before


def _effect(insn: Insn) -> tuple[int, int]:
    """Bits of the registers read, and written."""
    if insn.code == isa.CALL:
        return _ARGUMENTS, _CALLER_SAVED
    reads = 0
    for number in isa.registers_read(insn):
        reads |= 1 << number
    cls = insn.code & 7
    if cls in (Class.ALU, Class.ALU64) and insn.op in ALU_OPS:
        return reads, 1 << insn.dst
    if cls == Class.LDX:
        return reads, 1 << insn.dst
    if cls == Class.LD:
        return reads, 1 << insn.dst if insn.code == isa.LD_IMM64 else _CALLER_SAVED
    if cls == Class.STX and insn.mode == "atomic":
        return reads, _atomic_writes(insn)
    return reads, 0


def _atomic_writes(insn: Insn) -> int:
    name = ATOMIC_OPS.get(insn.imm, "")
    if name == "cmpxchg":
        return 1
    if name == "load_acquire":
        return 1 << insn.dst
    return 1 << insn.src if name.startswith(("fetch_", "xchg")) else 0
