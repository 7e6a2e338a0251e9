# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel bugs that a program meets on a profile: flags, whatever the verdict.

Source: the reference, section 7.1 (letters are its), all reproduced there; docs/kernel-bugs has
programs. Bugs that need a second program or a tracer (B, E, F) are not to be seen in one program.
"""

from harness.bpf import isa
from harness.bpf.isa import Insn
from harness.bpf.sections import program_type
from harness.verify import removal
from harness.verify.callgraph import CallGraph
from harness.verify.prediction import Explored, NotModelled, Subject
from harness.verify.rules import rules_of
from harness.verify.stacks import deepest
from harness.verify.structure import jump_target

_PRIVATE_FROM_BYTES = 64
_PRIVATE_TYPES = frozenset({
    "kprobe", "tracepoint", "perf_event", "raw_tp", "fentry", "fexit", "fmod_ret", "lsm",
})  # fmt: skip


def bugs(subject: Subject, graph: CallGraph, explored: Explored | None) -> tuple[str, ...]:
    """One sentence for each bug, with the letter of the reference in front."""
    found = (
        _stale_callback(subject, graph, explored),
        _throw_in_loop(subject, graph),
        _private_stack(subject, graph),
        _lost_address(subject, explored),
    )
    leaks = sorted(explored.leaks) if explored is not None else []
    return (*(each for each in found if each), *(f"G: {each}" for each in leaks))


def _stale_callback(subject: Subject, graph: CallGraph, explored: Explored | None) -> str:
    """A: functions in front of the callback that die change its number, which nobody corrects."""
    callback = subject.program.exception_callback
    if callback is None or explored is None or not explored.seen:
        return ""
    dead = [
        function.name
        for at, function in enumerate(graph.functions)
        if 0 < at < callback and explored.seen.isdisjoint(range(function.start, function.end))
    ]
    if not dead:
        return ""
    return (
        f"A: {', '.join(f'{name}()' for name in dead)} is never reached and is removed; the "
        "kernel then takes the wrong function for the exception callback and crashes, at load "
        "or at the throw"
    )


def _throw_in_loop(subject: Subject, graph: CallGraph) -> str:
    """C: a path that ends by a throw inside a loop."""
    if not rules_of(subject.profile).loses_throws_in_loops:
        return ""
    pcs = throws_in_loops(subject, graph)
    if not pcs:
        return ""
    where = ", ".join(str(pc) for pc in sorted(pcs))
    return (
        f"C: throws inside a loop (instruction {where}): unless a checkpoint was made in the loop "
        "before, the verifier fails with EFAULT, `scc exit: no visit info for call chain`"
    )


def throws_in_loops(subject: Subject, graph: CallGraph) -> set[int]:
    """Calls that may throw, of bpf_throw or of a function, inside a loop of the control flow."""
    insns, found = subject.program.insns, set()
    for at, function in enumerate(graph.functions):
        calls = {site.pc for site in graph.sites[at] if site.callee in graph.might_throw}
        for pc in calls | set(graph.throws[at]):
            if pc in _reaches(insns, pc + 1, function.start, function.end):
                found.add(pc)
    return found


def _reaches(insns: tuple[Insn, ...], start: int, first: int, end: int) -> set[int]:
    """Instructions of a function that a path from `start` leads to."""
    seen: set[int] = set()
    todo = [start]
    while todo:
        pc = todo.pop()
        if pc in seen or not first <= pc < end:
            continue
        seen.add(pc)
        insn = insns[pc]
        target = jump_target(pc, insn)
        if target is not None:
            todo.append(target)
        if insn.code not in (isa.JA, isa.JA32, isa.EXIT):
            todo.append(pc + (2 if insn.code == isa.LD_IMM64 else 1))
    return seen


def _private_stack(subject: Subject, graph: CallGraph) -> str:
    """D: a throw out of a program with a private stack restores the wrong registers."""
    able = rules_of(subject.profile).private_stacks and not graph.tail_calls
    kind = program_type(subject.program.section)
    if not able or kind not in _PRIVATE_TYPES or 0 not in graph.might_throw:
        return ""
    size = deepest(subject.program, graph.functions[0])
    if size < _PRIVATE_FROM_BYTES:
        return ""
    return (
        f"D: {subject.program.name}() has {size} bytes of stack, which a {kind} program gets as a "
        "private one; a throw then returns to the kernel with wrong registers (x86-64)"
    )


def _lost_address(subject: Subject, explored: Explored | None) -> str:
    """H: an address keeps its distance when the function there is removed."""
    if explored is None or not explored.seen:
        return ""
    try:
        lost = [name for _, name in removal.lost_addresses(subject.program, explored)]
    except NotModelled:
        return ""
    if not lost:
        return ""
    names = ", ".join(f"{name}()" for name in dict.fromkeys(lost))
    return (
        f"H: {names} is never called and is removed, its address is still taken: the load fails "
        "with EFAULT, and the kernel warns of a bug of its own"
    )
