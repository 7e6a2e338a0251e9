# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How much stack a chain of calls takes.

Source: check_max_stack_depth_subprog() and bpf_enable_priv_stack() in kernel/bpf/verifier.c. How
deep one function goes is what paths showed; where they were not explored, what its instructions
say, which is at least as deep.
"""

from collections.abc import Sequence

from harness.bpf import isa
from harness.bpf.isa import Class
from harness.bpf.program import LinkedFunction, Program
from harness.bpf.sections import program_type
from harness.verify.callgraph import CallGraph
from harness.verify.prediction import Category, Explored, NotModelled, Rejection, Subject
from harness.verify.rules import Rules

# MAX_BPF_STACK, BPF_PRIV_STACK_MIN_SIZE, and what a frame is rounded up to where there is a JIT
LIMIT_BYTES = 512
_PRIVATE_FROM_BYTES = 64
_ROUND_BYTES = 16
_EACCES = 13
_FRAME = 10
# types whose programs may get a stack of their own for each function: those that a trampoline
# keeps from recursing, and those that are kept by themselves
_PRIVATE = frozenset({"kprobe", "tracepoint", "perf_event", "raw_tp", "fentry", "fexit",
                      "fmod_ret", "lsm"})  # fmt: skip
# as above, where some of its programs are
_PERHAPS_PRIVATE = frozenset({"tp_btf", "iter", "struct_ops"})


class Stacks:
    """The sum over the chain at hand."""

    def __init__(
        self, subject: Subject, graph: CallGraph, rules: Rules, explored: Explored | None
    ) -> None:
        self._graph = graph
        self._program = subject.program
        self._known = explored.stacks if explored is not None else {}
        self._explored = explored is not None
        self._depths: dict[int, int] = {}
        self._sum = 0
        kind = program_type(subject.program.section)
        able = rules.private_stacks and not graph.tail_calls
        self._able = able and kind in _PRIVATE
        self._perhaps = able and kind in _PERHAPS_PRIVATE
        # functions that share the kernel's stack, and those that have their own
        self._shared: set[int] = set()
        self._private: set[int] = set()
        self._supported = False

    def begin(self, root: int) -> None:
        """A walk from a root: the program, a timer's callback, the exception callback."""
        self._sum, self._supported = 0, self._able and not root

    def enter(self, function: int, chain: Sequence[int], *, called: bool) -> None:
        """A function is called. Raises Rejection where the chain takes too much."""
        if called and function in self._graph.tail_calls and self._sum >= LIMIT_BYTES // 2:
            raise _refusal(
                self._start(function),
                "tail_calls are not allowed when call stack of previous frames is "
                f"{self._sum} bytes. Too large",
                f"the callers of {self._name(function)}(), which makes a tail call, take "
                f"{self._sum} bytes of stack; less than {LIMIT_BYTES // 2} are allowed",
            )
        if not self._supported:
            self._shared.add(function)
        depth = self.depth(function)
        if self._supported and function not in self._shared and depth >= _PRIVATE_FROM_BYTES:
            self._private.add(function)
        if function in self._private:
            self._require(
                depth,
                function,
                f"stack size of subprog {function} is {depth}. Too large",
                f"{self._name(function)}() takes {depth} bytes of stack",
            )
            return
        self._sum += depth
        if self._sum > LIMIT_BYTES:
            names = " -> ".join(f"{self._name(f)}() {self.depth(f)}" for f in chain)
            self._require(
                self._sum,
                function,
                f"combined stack size of {len(chain)} calls is {self._sum}. Too large",
                f"a chain of calls takes {self._sum} bytes of stack: {names}",
            )

    def leave(self, function: int) -> None:
        """A function returns."""
        if function not in self._private:
            self._sum -= self.depth(function)

    def depth(self, function: int) -> int:
        """Bytes of stack that a function takes, rounded up."""
        if function not in self._depths:
            self._depths[function] = self._depth(function)
        return self._depths[function]

    def _depth(self, function: int) -> int:
        found = self._known.get(self._start(function))
        if found is None and self._explored:
            found = 0  # no path touched it
        if found is None:
            found = deepest(self._program, self._graph.functions[function])
        return -(-found // _ROUND_BYTES) * _ROUND_BYTES

    def _require(self, size: int, function: int, message: str, why: str) -> None:
        if size <= LIMIT_BYTES:
            return
        if not self._explored:
            raise NotModelled(f"{why}, if all of it is reached; {LIMIT_BYTES} are allowed")
        if self._perhaps:
            raise NotModelled(f"{why}, unless the kernel gives it a private one")
        raise _refusal(self._start(function), message, f"{why}; {LIMIT_BYTES} are allowed")

    def _start(self, function: int) -> int:
        return self._graph.functions[function].start

    def _name(self, function: int) -> str:
        return self._graph.functions[function].name


def deepest(program: Program, function: LinkedFunction) -> int:
    """The lowest byte below the frame that instructions of the function name."""
    found, copies = 0, {_FRAME: 0}
    for pc in range(function.start, function.end):
        insn = program.insns[pc]
        if insn.cls in (Class.LDX, Class.ST, Class.STX):
            base = insn.src if insn.cls is Class.LDX else insn.dst
            if base in copies:
                found = min(found, copies[base] + insn.off)
        elif insn.code == 0xBF and insn.src in copies and not insn.off:  # rD = rS
            copies[insn.dst] = copies[insn.src]
            continue
        elif insn.code == 0x07 and insn.dst in copies:  # rD += imm
            copies[insn.dst] += insn.imm
            found = min(found, copies[insn.dst])
            continue
        _forget(copies, insn)
    return -found


def _forget(copies: dict[int, int], insn: isa.Insn) -> None:
    written = () if insn.cls in (Class.ST, Class.STX, Class.JMP, Class.JMP32) else (insn.dst,)
    for number in range(6) if insn.code == isa.CALL else written:
        if number != _FRAME:
            copies.pop(number, None)


def _refusal(pc: int, message: str, why: str) -> Rejection:
    fix = "move large variables into a map (per-CPU array), or shorten the chain of calls"
    return Rejection(Category.MEMORY, message, errno=_EACCES, pc=pc, why=why, fix=fix)
