# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Path exploration: every path through the program, its global functions and its callbacks.

Depth first, in the kernel's order, so that the first rejection is the kernel's; with a budget.
What instructions do: harness.verify.alu, memory, jumps, calls, throws. Source: do_check() and
do_check_common() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.bpf import isa
from harness.bpf.isa import ATOMIC_OPS, Class, Insn
from harness.verify import alu, atomics, calls, constants, jumps, memory, mixing, throws
from harness.verify import registers as r
from harness.verify.flow import flow_of
from harness.verify.frames import Frame, State
from harness.verify.globals import argument_registers
from harness.verify.prediction import Category, Explored, NotModelled, Subject
from harness.verify.registers import Reg
from harness.verify.visited import visited
from harness.verify.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable

# helpers after which pointers into the packet are void: bpf_helper_changes_pkt_data()
CHANGES_PACKET: Final = frozenset({
    9, 10, 11, 12, 13, 18, 19, 31, 38, 39, 43, 44, 50, 54, 63, 65, 73, 74, 75, 76, 90, 91, 143,
})  # fmt: skip
# what a step gives instead of the next instruction: the path ends
ENDS: Final = -1


def explore(
    subject: Subject, budget: int, *, record: bool = False, into: Explored | None = None
) -> Explored:
    """Follow every path of a linked program.

    `budget`: instructions. `record`: keep the registers in front of each instruction, for the
    ranges. `into`: what is learnt, also where that ends early. Raises Rejection where a path is
    refused, NotModelled where the model does not know.
    """
    program = subject.program
    left = constants.left_of(subject)
    walk = Walk(subject, flow_of(program, CHANGES_PACKET, left), into or Explored(), budget)
    if program.unknown:
        pc, what = min(program.unknown.items())
        raise NotModelled(what, pc=pc)
    if not walk.kind:
        raise NotModelled(f"programs in section {program.section!r}")
    if walk.sleepable and walk.kind in ("tp_btf", "raw_tp", "tracepoint"):
        raise NotModelled("whether programs at this tracepoint may sleep")
    if record:
        walk.kept = {}
    _explore_function(walk, 0)
    done: set[int] = set()
    if program.exception_callback is not None:
        walk.called.add(program.exception_callback)
    while True:
        todo = [i for i in sorted(walk.called) if i not in done]
        if not todo:
            break
        for index in todo:
            _explore_function(walk, index)
            done.add(index)
    walk.explored.states = walk.kept or {}
    return walk.explored


def _explore_function(walk: Walk, index: int) -> None:
    """The program itself (index 0), a global function, or the exception callback."""
    function = walk.program.functions[index]
    frame = Frame(index, -1, 0)
    walk.state = State(frame)
    walk.pc, walk.before = function.start, -1
    walk.recorded.clear()
    walk.loop_visits.clear()
    if index or walk.kind == "freplace":
        argument_registers(walk, index, frame)
    else:
        frame.regs[1] = Reg(r.CTX)
    _run(walk)


def _run(walk: Walk) -> None:
    """do_check(): until no path is left."""
    insns, steps, explored = walk.insns, _STEPS, walk.explored
    prune, jump, seen = walk.flow.prune, walk.flow.jump, walk.explored.seen
    late = walk.late_problems
    while True:
        pc = walk.pc
        explored.insns += 1
        if explored.insns > walk.budget:
            raise NotModelled(f"the budget of {walk.budget} instructions is used up", pc=pc)
        if pc in prune and visited(walk):
            explored.pruned = True
            nexts = ENDS
        else:
            if pc in jump:
                walk.state.history += 1
            if walk.kept is not None:
                walk.keep()
            seen.add(pc)
            if pc in late:
                walk.reject(Category.PROGRAM_STRUCTURE, late[pc], why="no kernel takes this field")
            insn = insns[pc]
            nexts = steps[insn.code & 7](walk, insn)
        if nexts != ENDS:
            walk.before = pc
            walk.pc = nexts
        elif not _next_path(walk):
            return


def _next_path(walk: Walk) -> bool:
    """The path at hand ends; take up the one that was put aside last."""
    state: State | None = walk.state
    while state is not None:
        state.branches -= 1
        if state.branches:
            break
        state = state.parent
    if not walk.todo:
        return False
    walk.state, walk.pc, walk.before = walk.todo.pop()
    return True


# ---- one instruction ----------------------------------------------------------------------------


def _alu(walk: Walk, insn: Insn) -> int:
    if walk.has_arena:
        mixing.arithmetic(walk, insn)
    alu.step(walk, insn)
    return walk.pc + 1


def _ldx(walk: Walk, insn: Insn) -> int:
    base = walk.regs[insn.src]
    memory.load(walk, insn)
    mixing.access(walk, base, load=True)
    return walk.pc + 1


def _st(walk: Walk, insn: Insn) -> int:
    base = walk.regs[insn.dst]
    memory.store(walk, insn, immediate=True)
    mixing.access(walk, base, load=False)
    return walk.pc + 1


def _stx(walk: Walk, insn: Insn) -> int:
    loads = insn.mode == "atomic" and ATOMIC_OPS.get(insn.imm) == "load_acquire"
    base = walk.regs[insn.src if loads else insn.dst]
    if insn.mode == "atomic":
        atomics.step(walk, insn)
    else:
        memory.store(walk, insn, immediate=False)
    mixing.access(walk, base, load=False)
    return walk.pc + 1


def _ld(walk: Walk, insn: Insn) -> int:
    if insn.code == isa.LD_IMM64:
        calls.load_constant(walk, insn)
        return walk.pc + 2
    calls.load_packet(walk, insn)
    return walk.pc + 1


def _jmp(walk: Walk, insn: Insn) -> int:
    walk.jumps += 1
    code = insn.code
    if code == isa.CALL:
        return calls.call(walk, insn)
    if code == isa.EXIT:
        return _exit(walk)
    if code == isa.JA:
        return walk.pc + 1 + insn.off
    if code == isa.JA32:
        return walk.pc + 1 + insn.imm
    if code == isa.MAY_GOTO:
        return calls.may_goto(walk, insn)
    if code in (isa.GOTOX, isa.CALLX):
        walk.unknown("an indirect jump or call")
    return jumps.step(walk, insn)


def _exit(walk: Walk) -> int:
    throws.check_held(walk, throws=False)
    if len(walk.state.frames) > 1:
        return calls.return_to_caller(walk)
    throws.check_value(walk, 0, "R0")
    return ENDS


_STEPS: Final[dict[int, Callable[[Walk, Insn], int]]] = {
    Class.LD: _ld,
    Class.LDX: _ldx,
    Class.ST: _st,
    Class.STX: _stx,
    Class.ALU: _alu,
    Class.JMP: _jmp,
    Class.JMP32: _jmp,
    Class.ALU64: _alu,
}
