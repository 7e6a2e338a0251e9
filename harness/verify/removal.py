# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where addresses point when functions that no path reached are gone.

A function whose address is taken and that nothing calls is removed; the instruction that takes the
address stays, and points at whatever comes to stand there. Where functions are then compiled one by
one, an address at which none begins is refused, with a warning, for it "cannot happen". Source:
bpf_opt_remove_dead_code(), add_hidden_subprog() and jit_subprogs() in kernel/bpf/fixups.c (7.3;
verifier.c before), bpf_adj_delta_to_imm() in core.c.
"""

from collections.abc import Iterator

from harness.bpf import isa
from harness.bpf.program import Program
from harness.verify.callgraph import is_helper
from harness.verify.flow import LOOP
from harness.verify.prediction import Category, Explored, NotModelled, Rejection, Subject
from harness.verify.rules import rules_of

_EFAULT = 14


def check(subject: Subject, explored: Explored) -> None:
    """Addresses of functions that are gone. Raises Rejection, NotModelled."""
    for pc, name in lost_addresses(subject.program, explored):
        raise Rejection(
            Category.PROGRAM_STRUCTURE,
            rules_of(subject.profile).no_function_there,
            errno=_EFAULT,
            pc=pc,
            why=f"nothing that is reached calls {name}(), so it is removed; its address, which is "
            "taken here, then points where no function begins. The kernel warns of a bug of its "
            "own",
            fix=f"do not take the address of {name}(), or call it",
        )


def lost_addresses(program: Program, explored: Explored) -> Iterator[tuple[int, str]]:
    """Instructions that take the address of a function that is gone, and its name.

    None where functions are not compiled one by one, and where another function is taken for it.
    Raises NotModelled.
    """
    gone = {
        pc: pc + 1 + program.insns[pc].imm
        for pc in sorted(explored.seen)
        if (program.insns[pc].code, program.insns[pc].src) == (isa.LD_IMM64, isa.PSEUDO_FUNC)
        and pc + 1 + program.insns[pc].imm not in explored.seen
    }
    if not gone or not _compiles_functions(program, explored):
        return
    kept = _kept(program, explored.seen)
    starts = {function.start for function in program.functions}
    for pc, target in gone.items():
        if _landing(program, kept, target) not in starts:
            yield pc, program.function_at(target).name


def _compiles_functions(program: Program, explored: Explored) -> bool:
    """Whether something is left besides the program itself: a function, or the default callback."""
    left = sum(function.start in explored.seen for function in program.functions)
    default = explored.threw and program.exception_callback is None
    return left + default > 1


def _kept(program: Program, seen: set[int]) -> list[int]:
    """Slots that stay, in order: wide instructions have two."""
    wide = {pc + 1 for pc in seen if program.insns[pc].code == isa.LD_IMM64}
    return sorted(seen | wide)


def _landing(program: Program, kept: list[int], target: int) -> int | None:
    """Instruction that comes to stand where `target` pointed; None: none, the program ends there.

    Removed is a whole stretch of dead code at a time. An address inside of one stays as far behind
    the stretch's beginning as it was. (The default callback is put behind what is left, and an
    address of that place is moved along.) Instructions that do nothing are removed later: what
    pointed behind them still does.
    """
    before = [pc for pc in kept if pc < target]
    behind = target - (before[-1] + 1)
    rest = kept[len(before) :]
    if any(is_helper(program.insns[pc], LOOP) for pc in rest[:behind]):
        raise NotModelled("where an address points: bpf_loop() there may be inlined", pc=target)
    return rest[behind] if behind < len(rest) else None
