# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Exception structure: the callback's tag, and what callbacks may not contain.

Source: bpf_find_exception_callback_insn_off() and check_max_stack_depth_subprog() in
kernel/bpf/verifier.c (6.12, 7.3). The second walks over all instructions of the call graph, dead
ones too, after every path was explored. Which functions a helper gets as callbacks is what paths
showed; the exception callback is one in any case. State at a throw is harness.verify.throws'.
"""

from dataclasses import dataclass, field

from harness.verify.callgraph import CallGraph
from harness.verify.prediction import Category, Explored, NotModelled, Rejection, Subject
from harness.verify.rules import Rules, rules_of
from harness.verify.stacks import Stacks

_EEXIST, _ENOENT, _E2BIG = 17, 2, 7
# steps of one walk: a call graph may have more paths than anyone can walk
_MOST_STEPS = 50_000


def check_tags(subject: Subject) -> None:
    """What is said of the declaration tags that name the exception callback."""
    names = subject.obj.program(subject.program.name).exception_callbacks
    if not names:
        return
    if len(names) > 1:
        raise _refusal(
            0,
            "multiple exception callback tags for main subprog",
            f"{subject.program.name}() has {len(names)} exception_callback tags, "
            f"for {', '.join(names)}; one is all it may have, even of equal ones",
            "keep one __exception_cb()",
            errno=_EEXIST,
        )
    (name,) = names
    found = next((f for f in subject.program.functions if f.name == name), None)
    if found is None:
        raise _refusal(
            0,
            f"exception callback '{name}' could not be found in BTF",
            f"there is no function {name}()",
            "name a global function of this object",
            errno=_ENOENT,
        )
    if found.linkage != "global":
        raise _refusal(
            0,
            f"exception callback '{name}' must have global linkage",
            f"{name}() is static: the verifier would not look at it by itself",
            "drop `static` (or the hidden visibility)",
        )
    if found.start == 0:
        raise _refusal(
            0,
            "invalid exception callback insn_off in func_info: 0",
            f"{name}() is the program itself",
            "name another function",
        )


def check_walk(subject: Subject, graph: CallGraph, explored: Explored | None) -> None:
    """check_max_stack_depth(). Raises Rejection, NotModelled.

    `explored` None: nothing is known of paths, so that only the exception callback is a callback.
    """
    _Walk(subject, graph, explored).run()


def _refusal(pc: int, message: str, why: str, fix: str, errno: int = 22) -> Rejection:
    return Rejection(
        Category.PROGRAM_STRUCTURE, message, errno=errno, pc=pc, why=why, fix=fix
    )  # fmt: skip


@dataclass(slots=True)
class _Frame:
    """One function on the chain of calls that is walked."""

    function: int
    # place in CallGraph.sites of the next call
    place: int = 0
    # frames on the chain, as the kernel counts them
    count: int = 0
    # throws before the next call were looked at up to here
    pc: int = 0


@dataclass
class _Walk:
    subject: Subject
    graph: CallGraph
    explored: Explored | None
    rules: Rules = field(init=False)
    chain: list[_Frame] = field(default_factory=list)
    callbacks: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)
    # functions from which a tail call can be reached
    tail_calling: set[int] = field(default_factory=set)
    steps: int = 0

    def __post_init__(self) -> None:
        self.rules = rules_of(self.subject.profile)
        self.exception = self.subject.program.exception_callback
        known = self.explored or Explored()
        self.callbacks = {self._at(start) for start in known.callbacks}
        self.late = {self._at(start) for start in known.late_callbacks}
        if self.exception is not None:
            self.callbacks.add(self.exception)
            self.late.add(self.exception)
        self.tail_calling = set(self.graph.tail_calls)
        self.stacks = Stacks(self.subject, self.graph, self.rules, self.explored)

    def _at(self, start: int) -> int:
        found = self.graph.index_at(start)
        assert found is not None, start
        return found

    def run(self) -> None:
        for root in reversed(range(len(self.graph.functions))):
            if root and root not in self.late:
                continue
            self.stacks.begin(root)
            self._enter(root, 0, called=False)
            while self.chain:
                self._step()

    def _enter(self, function: int, count: int, *, called: bool) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise NotModelled(f"more than {_MOST_STEPS} chains of calls")
        self.chain.append(_Frame(function, 0, count, self.graph.functions[function].start))
        if function in self.graph.packet_loads and self._blamed() is not None:
            self._refuse_packet_load(function)
        self.stacks.enter(function, [frame.function for frame in self.chain], called=called)

    def _step(self) -> None:
        frame = self.chain[-1]
        sites = self.graph.sites[frame.function]
        if frame.place == len(sites):
            self._check_throws(frame, self.graph.functions[frame.function].end)
            self._check_tail_call()
            self.stacks.leave(frame.function)
            self.chain.pop()
            return
        site = sites[frame.place]
        frame.place += 1
        self._check_throws(frame, site.pc)
        if site.callee in self.late:
            if site.by_address:
                return
            if site.callee == self.exception:
                self._refuse_direct_call(site.pc, site.callee)
        count = self._count(frame.count, site.callee)
        if count >= self.subject.profile.max_frames:
            raise _refusal(
                site.pc,
                f"the call stack of {count} frames is too deep",
                f"a chain of calls has {count + 1} functions, the program included; "
                f"{self.subject.profile.max_frames} are allowed",
                "make the chain shorter: let the compiler inline (drop __noinline)",
                errno=_E2BIG,
            )
        self._enter(site.callee, count, called=True)

    def _count(self, count: int, callee: int) -> int:
        restarts = self.subject.profile.frames_restart_at_global
        if restarts and self.graph.functions[callee].linkage == "global":
            return 0
        return count + 1

    def _blamed(self) -> int | None:
        """The callback that is on the chain."""
        found = (f.function for f in reversed(self.chain) if f.function in self.callbacks)
        return next(found, None)

    def _check_throws(self, frame: _Frame, end: int) -> None:
        throws = [pc for pc in self.graph.throws[frame.function] if frame.pc <= pc < end]
        frame.pc = end
        blamed = self._blamed() if throws else None
        if blamed is None:
            return
        names = [self.graph.functions[at].name for at in (frame.function, blamed)]
        kind = "the exception callback" if blamed == self.exception else "a callback"
        path = "" if frame.function == blamed else f", which calls {names[0]}()"
        raise _refusal(
            throws[0],
            f"bpf_throw kfunc (insn {throws[0]}) cannot be called from callback subprog "
            f"{frame.function}",
            f"{names[1]}() is {kind}{path}: a throw there would have to unwind the kernel's own "
            "frames. It counts whether or not it can be reached",
            "return a value from the callback that tells its caller to throw",
        )

    def _refuse_direct_call(self, pc: int, callee: int) -> None:
        name = self.graph.functions[callee].name
        raise _refusal(
            pc,
            f"insn {pc} cannot call exception cb directly",
            f"{name}() is the exception callback, which runs in place of the program's frame; "
            "nothing may call it, not even code that is never reached",
            f"move what both need out of {name}() into another function",
        )

    def _check_tail_call(self) -> None:
        """At a function's end: the callbacks on a chain from which a tail call can be reached."""
        frame = self.chain[-1]
        if frame.function not in self.tail_calling or len(self.chain) < 2:
            return
        upper = {each.function for each in self.chain[:-1]}
        upper |= {frame.function} if self.rules.tail_call_in_any_callback else set()
        self.tail_calling |= upper
        exception = {self.exception} & upper
        if upper & self.callbacks if self.rules.tail_call_in_any_callback else exception:
            raise _refusal(
                self.graph.functions[frame.function].start,
                self.rules.tail_call_in_callback,
                f"{self.graph.functions[frame.function].name}() makes a tail call, and a callback "
                "leads there",
                "make the tail call in the program",
            )

    def _refuse_packet_load(self, function: int) -> None:
        if not self.rules.fields_first:
            raise NotModelled("LD_ABS in a callback: depends on the stable release")
        raise _refusal(
            self.graph.functions[function].start,
            "cannot use BPF_LD_[ABS|IND] within callback",
            "a packet load that fails ends the program, which a callback cannot",
            "use bpf_skb_load_bytes()",
        )
