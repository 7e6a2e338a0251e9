# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Calls of global functions that may sleep, from where nobody may.

Source: mark_subprog_might_sleep() and check_func_call() in kernel/bpf of 7.3; for 6.18 the words
of its commit e2d8f560d1de ("bpf: Summarize sleepable global subprogs", in v6.15).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.bpf import isa
from harness.bpf.program import RefKind
from harness.verify import kfuncprotos, prototypes
from harness.verify.callgraph import CallGraph
from harness.verify.prediction import Category, NotModelled

if TYPE_CHECKING:
    from harness.verify.walk import Walk

_SINCE: Final = (6, 15)
_EARLY: Final = "global functions that may sleep are not allowed in non-sleepable context"


def sleepers(walk: Walk) -> frozenset[int]:
    """Functions that hold a call that may sleep, or refer to one that does; dead calls count."""
    graph = CallGraph(walk.program)
    return graph.with_callers({
        at
        for at, function in enumerate(graph.functions)
        if any(_sleeps(walk, pc) for pc in range(function.start, function.end))
    })  # fmt: skip


def _sleeps(walk: Walk, pc: int) -> bool:
    insn, ref = walk.insns[pc], walk.program.refs.get(pc)
    profile = walk.subject.profile.name
    if insn.code != isa.CALL:
        return False
    if insn.src == isa.HELPER_CALL:
        found = prototypes.helper(insn.imm, walk.kind, profile)
        return found is not None and found.sleeps
    if ref is None or ref.kind is not RefKind.KFUNC:
        return False
    try:
        row = kfuncprotos.kfunc(ref.name, profile)
    except NotModelled:
        return False  # its call is not modelled either
    return row is not None and "sleeps" in row


def check_call(walk: Walk, index: int) -> None:
    """What is said of a call of a global function that may sleep."""
    if walk.release < _SINCE or index not in walk.sleepers:
        return
    state, where = walk.state, ""
    if state.rcu:
        where = "rcu_read_lock region"
    elif state.preempt:
        where = "non-preemptible region"
    elif state.held("irq"):
        where = "IRQ-disabled region"
    elif not walk.sleepable:
        where = "non-sleepable prog"
    if not where:
        return
    name = walk.program.functions[index].name
    late = walk.release >= (7, 0)
    walk.reject(
        Category.EXECUTION_CONTEXT,
        f"sleepable global function {name}() called in {where}" if late else _EARLY,
        why=f"{name}() holds a call that may sleep, reached or not; this is a {where}",
        fix="end the region before the call, or take the call that may sleep out of the function",
        certain=True,
    )
