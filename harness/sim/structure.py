# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What must hold of a program's code before a single instruction runs: it stays in its functions.

Owns the few structural rules of the verifier that the interpreter relies on, in the verifier's
words. Everything else about acceptance is a verifier's business, and there is none here.
"""

from typing import TYPE_CHECKING

from harness.bpf import isa, reserved
from harness.bpf.isa import Class, Insn
from harness.bpf.program import Program
from harness.sim.signals import Fault

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_ENDS = frozenset({isa.EXIT, isa.JA, isa.JA32, isa.GOTOX})
_NO_TARGET = frozenset({isa.EXIT, isa.CALL, isa.CALLX, isa.GOTOX})


# for machines that have callx, which no kernel has
EVERYTHING = (1 << 16,)


def kernel_of(profile: str) -> tuple[int, ...]:
    """Release whose instructions a profile has; the newest one's where it is no kernel."""
    if profile[:1].isdigit():
        return tuple(int(part) for part in profile.split("."))
    return reserved.NEWEST


def check_for(machine: "Machine", program: Program) -> None:
    """check_structure() for the kernel of a machine's profile; what every engine does first."""
    known = EVERYTHING if machine.calls_by_register else kernel_of(machine.profile.name)
    check_structure(program, known)


def check_structure(program: Program, kernel: tuple[int, ...] = reserved.NEWEST) -> None:
    """check_and_resolve_insns(), check_subprogs() and what check_cfg() says of wide instructions.

    Raises Fault for an instruction that `kernel` does not take and for code that leaves its
    function.
    """
    for problem in reserved.problems(program.insns, kernel):
        raise Fault(f"{problem.words}{_blamed(problem)}; instruction {problem.pc}")
    _check_callback(program)
    # an opcode of 0 is nothing else after the check above
    seconds = {pc for pc, insn in enumerate(program.insns) if not insn.code}
    for function in program.functions:
        for pc in range(function.start, function.end):
            insn = program.insns[pc]
            target = jump_target(pc, insn)
            if target is None:
                continue
            if not function.start <= target < function.end:
                raise Fault(f"jump out of range from insn {pc} to {target}")
            if target in seconds:
                raise Fault(f"jump into the middle of ldimm64 insn {target - 1}")
        if program.insns[function.end - 1].code not in _ENDS:
            raise Fault(f"last insn is not an exit or jmp; function {function.name}")


def _check_callback(program: Program) -> None:
    """check_max_stack_depth_subprog(): dead calls count too."""
    if program.exception_callback is None:
        return
    start = program.functions[program.exception_callback].start
    for pc, insn in enumerate(program.insns):
        called = insn.code == isa.CALL and insn.src == isa.PSEUDO_CALL
        if called and pc + 1 + insn.imm == start:
            raise Fault(f"insn {pc} cannot call exception cb directly")


def _blamed(problem: reserved.Problem) -> str:
    return f" ({problem.field} is {problem.value})" if problem.field else ""


def jump_target(pc: int, insn: Insn) -> int | None:
    """Where a jump goes, None for other instructions."""
    if insn.cls not in (Class.JMP, Class.JMP32) or insn.code in _NO_TARGET:
        return None
    return pc + 1 + (insn.imm if insn.code == isa.JA32 else insn.off)
