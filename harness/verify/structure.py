# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Program structure: what a verifier says before it follows a single path.

Source: add_subprogs(), check_subprogs(), check_and_resolve_insns(), check_cfg() and
sort_subprogs_topo() of kernel/bpf (6.12, 7.3), in their order. The callback's tag, which is looked
at among them, is harness.verify.exceptions' business.
"""

from collections.abc import Iterator

from harness.bpf import isa, opcodes
from harness.bpf.isa import Class, Insn
from harness.bpf.program import RefKind
from harness.verify import constants, exceptions, fields, usable_maps
from harness.verify.callgraph import CallGraph
from harness.verify.prediction import Category, NotModelled, Rejection, Subject
from harness.verify.rules import rules_of
from harness.verify.signatures import type_of

# license_is_gpl_compatible() in include/linux/license.h
_GPL = frozenset({
    "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL",
})  # fmt: skip
_ENDS = frozenset({isa.EXIT, isa.JA, isa.JA32, isa.GOTOX})
_NO_JUMP = frozenset({isa.EXIT, isa.CALL, isa.CALLX, isa.GOTOX})


def check(subject: Subject, graph: CallGraph) -> None:
    """All of it, in a kernel's order. Raises Rejection, NotModelled."""
    rules = rules_of(subject.profile)
    if rules.kfuncs_first:
        _check_licence(subject)
    exceptions.check_tags(subject)
    _check_functions(subject)
    _check_abnormal_returns(subject, graph)
    _check_fields(subject)
    usable_maps.check(subject)
    if not rules.kfuncs_first:
        _check_licence(subject)
    _check_reachable(subject)
    if rules.finds_recursion:
        left = constants.left_of(subject)
        _check_recursion(graph, constants.reached(left or subject.program))
    _check_parameters(subject)


def _check_parameters(subject: Subject) -> None:
    """Arguments beyond the fifth, which 7.3 has on a stack behind a register of their own."""
    for pc, insn in enumerate(subject.program.insns):
        if opcodes.PARAMS in (insn.dst, insn.src):
            raise NotModelled("arguments on the stack", pc=pc)


def _refusal(pc: int, message: str, why: str, fix: str, errno: int = 22) -> Rejection:
    return Rejection(
        Category.PROGRAM_STRUCTURE, message, errno=errno, pc=pc, why=why, fix=fix
    )  # fmt: skip


def _check_licence(subject: Subject) -> None:
    """add_kfunc_call(): what is said at the first call of a kernel function."""
    if subject.obj.license in _GPL:
        return
    calls = [pc for pc, ref in subject.program.refs.items() if ref.kind is RefKind.KFUNC]
    if calls:
        raise Rejection(
            Category.POLICY,
            "cannot call kernel function from non-GPL compatible program",
            pc=min(calls),
            why=f"the licence {subject.obj.license!r} is not compatible with the GPL, "
            "and only programs under one that is may call kernel functions",
            fix='char _license[] SEC("license") = "GPL";',
        )


def _check_functions(subject: Subject) -> None:
    """check_subprogs(): jumps stay in their function, and nothing falls out of one."""
    program = subject.program
    for function in program.functions:
        for pc in range(function.start, function.end):
            target = jump_target(pc, program.insns[pc])
            if target is not None and not function.start <= target < function.end:
                raise _refusal(
                    pc,
                    f"jump out of range from insn {pc} to {target}",
                    f"the jump leaves {function.name}()",
                    "call a function instead of jumping into it",
                )
        last = function.end - 1
        if program.insns[last].code not in _ENDS:
            raise _refusal(
                last,
                "last insn is not an exit or jmp",
                f"{function.name}() does not end in an exit or a jump, so that it would run into "
                "what follows; a call that never returns, as of bpf_throw, is no end",
                "return something behind the call; do not declare bpf_throw noreturn",
            )


def jump_target(pc: int, insn: Insn) -> int | None:
    """Where a jump may go besides the next instruction; None for every other instruction."""
    if insn.cls not in (Class.JMP, Class.JMP32) or insn.code in _NO_JUMP:
        return None
    return pc + 1 + (insn.imm if insn.code == isa.JA32 else insn.off)


def _check_abnormal_returns(subject: Subject, graph: CallGraph) -> None:
    """check_btf_func(): LD_ABS and tail calls may end a function, which then needs a value."""
    btf = subject.obj.btf
    for at, function in enumerate(graph.functions):
        packet, tail = at in graph.packet_loads, at in graph.tail_calls
        if not at or not (packet or tail):
            continue
        record = type_of(subject.obj, function)
        if record is None:
            raise NotModelled(f"what {function.name}() returns: there are several of that name")
        returned = btf.resolve(btf.type(record.type_id).type_id)
        if returned.kind.name in ("INT", "ENUM", "ENUM64"):
            continue
        what = "LD_ABS" if packet else "tail_call"
        raise _refusal(
            function.start,
            f"{what} is only allowed in functions that return 'int'.",
            f"{function.name}() may end at its {what} and has no value to return then",
            "let the function return an int",
        )


def _check_fields(subject: Subject) -> None:
    """resolve_pseudo_ldimm64(), in 7.3 check_and_resolve_insns()."""
    for problem in fields.early_problems(subject):
        raise _refusal(
            problem.pc,
            problem.words,
            str(problem),
            "compile for an older CPU (-mcpu=v3), or run a newer kernel",
        )


def _check_reachable(subject: Subject) -> None:
    """check_cfg(): every instruction can be reached, none in the middle of a wide one."""
    insns = subject.program.insns
    seen, pc = _reachable(subject), 0
    while pc < len(insns):
        if not seen[pc]:
            raise _refusal(
                pc,
                f"unreachable insn {pc}",
                "no path through the program leads to this instruction",
                "remove the instruction",
            )
        if insns[pc].code == isa.LD_IMM64:
            if seen[pc + 1]:
                raise _refusal(
                    pc,
                    f"jump into the middle of ldimm64 insn {pc}",
                    "a jump leads to the second half of a wide instruction",
                    "jump to the instruction itself",
                )
            pc += 1
        pc += 1


def _reachable(subject: Subject) -> bytearray:
    program = subject.program
    seen, todo = bytearray(len(program.insns) + 1), [0]
    if program.exception_callback is not None:
        todo.append(program.functions[program.exception_callback].start)
    while todo:
        pc = todo.pop()
        while not seen[pc]:
            seen[pc] = 1
            following = list(_successors(pc, program.insns[pc]))
            if not following:
                break
            pc, *more = following
            todo.extend(more)
    return seen


def _successors(pc: int, insn: Insn) -> Iterator[int]:
    """Where control may go from an instruction, into called functions too."""
    if insn.code == isa.GOTOX:
        raise NotModelled("a jump through a table", pc=pc)
    if insn.code == isa.EXIT:
        return
    target = jump_target(pc, insn)
    if insn.code not in (isa.JA, isa.JA32):
        yield pc + (2 if insn.code == isa.LD_IMM64 else 1)
    if target is not None:
        yield target
    if (insn.code, insn.src) in isa.LEADS_TO_CODE:
        yield pc + 1 + insn.imm


def _check_recursion(graph: CallGraph, reached: set[int]) -> None:
    """sort_subprogs_topo(), since 7.x: before that, the depth of calls finds recursion.

    Calls that no jump leads to (`reached`) do not count.
    """
    done: set[int] = set()
    for root in range(len(graph.functions)):
        path, todo = [], [(root, 0)]
        while todo:
            at, place = todo.pop()
            if place == 0:
                if at in done:
                    continue
                path.append(at)
            sites = [site for site in graph.sites[at] if site.pc in reached]
            while place < len(sites):
                site = sites[place]
                place += 1
                if site.callee in path:
                    _require_address(graph, at, site.callee, site.pc, by_address=site.by_address)
                elif site.callee not in done:
                    todo += [(at, place), (site.callee, 0)]
                    break
            else:
                done.add(at)
                path.pop()


def _require_address(graph: CallGraph, at: int, callee: int, pc: int, *, by_address: bool) -> None:
    if by_address:
        return
    caller, called = graph.functions[at].name, graph.functions[callee].name
    raise _refusal(
        pc,
        f"recursive call from {caller}() to {called}()",
        f"{called}() would be called while it runs",
        "write a loop instead",
    )
