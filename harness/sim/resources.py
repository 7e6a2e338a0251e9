# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the running frames hold: references, ring buffer records, iterators, locks, sections.

Owns the record of each acquisition (what, by which instruction, which frame answers for it), the
rules by which a verifier accepts or refuses an exit, a throw or a call while something is held,
and what is left behind where it accepts too much. How a thing is released is its acquirer's
business: it gives `drop`. Releasing at a throw (profile `cleanup`) is harness.sim.unwind's.

Sources: check_reference_leak() and process_bpf_exit in kernel/bpf/verifier.c of 6.12,
check_resource_leak() of 6.18 and 7.3; docs/semantics.md has the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from harness.bpf import isa
from harness.sim.frames import PROGRAM, SUBPROGRAM
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.bpf.link import LinkedFunction, Program
    from harness.sim.machine import Machine

# of one machine at a time
MAX_HELD = 10_000


class Place(Enum):
    """Where a frame keeps what it holds."""

    # a pointer to it, in R6 to R9 or in a stack slot
    POINTER = "pointer"
    # it is a stack slot: iterator, dynptr
    SLOT = "slot"
    # nowhere: a lock or section, held by whoever took it
    SECTION = "section"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource."""

    # in messages: "object", "RCU read section"
    name: str
    # the function that ends it, as the program would call it
    release: str
    place: Place


OBJECT = Kind("object", "bpf_obj_drop", Place.POINTER)
PERCPU_OBJECT = Kind("per-CPU object", "bpf_percpu_obj_drop", Place.POINTER)
SOCKET = Kind("socket", "bpf_sk_release", Place.POINTER)
RINGBUF = Kind("ring buffer record", "bpf_ringbuf_discard", Place.POINTER)
RINGBUF_DYNPTR = Kind("ring buffer dynptr", "bpf_ringbuf_discard_dynptr", Place.SLOT)
ITERATOR = Kind("iterator", "bpf_iter_{}_destroy", Place.SLOT)
SPIN_LOCK = Kind("spin lock", "bpf_spin_unlock", Place.SECTION)
RES_SPIN_LOCK = Kind("resilient spin lock", "bpf_res_spin_unlock", Place.SECTION)
RES_SPIN_LOCK_IRQ = Kind("resilient spin lock", "bpf_res_spin_unlock_irqrestore", Place.SECTION)
RCU = Kind("RCU read section", "bpf_rcu_read_unlock", Place.SECTION)
PREEMPT = Kind("preemption-off section", "bpf_preempt_enable", Place.SECTION)
IRQ = Kind("interrupts-off section", "bpf_local_irq_restore", Place.SECTION)

RESILIENT = frozenset({RES_SPIN_LOCK, RES_SPIN_LOCK_IRQ})
LOCKS = RESILIENT | {SPIN_LOCK}
_QUIET = frozenset({RCU, PREEMPT, IRQ})


@dataclass(slots=True, eq=False)
class Resource:
    """One thing that is held."""

    kind: Kind
    # which one: "struct foo", "of map rb", "num"; "" where the kind says it all
    what: str
    # of the object, stack slot or lock; 0 for sections that have none
    address: int
    program: "Program"
    # instruction that acquired it
    pc: int
    # index in Machine.frames of the frame that answers for it; falls as frames return
    depth: int
    # ends it without a trace of its own
    drop: Callable[[], None]

    @property
    def name(self) -> str:
        """Kind and what, for messages."""
        return f"{self.kind.name} {self.what}".rstrip()

    @property
    def release(self) -> str:
        """The function that ends it."""
        return self.kind.release.format(self.what)


def _nothing() -> None:
    return


@dataclass(slots=True)
class Resources:
    """Everything that the frames of one machine hold, in order of acquisition."""

    machine: "Machine"
    live: list[Resource]
    # what throws that the profile's verifier accepts left behind, in words
    leaked: list[str]

    def acquire(
        self, kind: Kind, address: int = 0, what: str = "", drop: Callable[[], None] = _nothing
    ) -> Resource:
        """Note that the running frame holds something now. Raises Unsupported over MAX_HELD.

        `drop` must end it as its release function does, but not call release(): the profile
        `cleanup` calls it after the record is gone.
        """
        if len(self.live) >= MAX_HELD:
            raise Unsupported(f"more than {MAX_HELD} resources held")
        machine = self.machine
        program = machine.frames[-1].program
        made = Resource(kind, what, address, program, machine.pc, len(machine.frames) - 1, drop)
        self.live.append(made)
        return made

    def release(self, kind: Kind, address: int = 0) -> Resource:
        """Forget the newest such resource at `address`. Raises Fault when there is none."""
        found = self.find(kind, address)
        if found is None:
            raise Fault(f"{kind.release.format('*')}: no such {kind.name} is held")
        self.live.remove(found)
        return found

    def find(self, kind: Kind, address: int = 0) -> Resource | None:
        """The newest such resource at `address`."""
        return next(
            (r for r in reversed(self.live) if r.kind is kind and r.address == address), None
        )

    def newest(self, *kinds: Kind) -> Resource | None:
        """The newest resource of these kinds."""
        return next((r for r in reversed(self.live) if r.kind in kinds), None)

    def newest_here(self, kind: Kind) -> Resource | None:
        """The newest one that was taken since verification started: not by the callers of a
        global function, and not by the program below a callback.
        """
        root = self._root(len(self.machine.frames) - 1)
        found = self.newest(kind)
        return found if found is not None and found.depth >= root else None

    def release_here(self, kind: Kind, message: str) -> Resource:
        """Forget what newest_here() gives. Raises Fault with `message` when there is none."""
        found = self.newest_here(kind)
        if found is None:
            raise Fault(message)
        self.live.remove(found)
        return found

    def line(self, resource: Resource) -> str:
        """Source line that acquired it."""
        found = self.machine.line(resource.program, resource.pc)
        return found or f"instruction {resource.pc}"

    def describe(self, resource: Resource) -> str:
        """Name and source line."""
        return f"{resource.name} acquired at {self.line(resource)}"

    # ---- what a verifier says --------------------------------------------------------------

    def check_return(self, depth: int) -> None:
        """A function returns; its frame, number `depth`, is still there. Raises Fault.

        What is verified by itself must give back what it took: a program, a global function, an
        exception callback, a callback of a helper. A static function hands it to its caller.
        """
        mine = [r for r in self.live if r.depth >= depth]
        if not mine:
            return
        frame = self.machine.frames[depth]
        if frame.kind == SUBPROGRAM and frame.function.linkage == "static":
            for resource in mine:
                resource.depth = depth - 1
            return
        where = _exits(self.machine, frame.program, frame.function)
        raise Fault(
            f"{_unreleased(mine[-1])}: {self.describe(mine[-1])} is still held when "
            f"{frame.function.name} returns{where}"
        )

    def check_call(self, function: "LinkedFunction") -> None:
        """A call of a global function. Raises Fault where no verifier accepts it."""
        lock = self.newest(*LOCKS)
        if lock is not None:
            raise Fault(
                "global function calls are not allowed while holding a lock: "
                f"{self.describe(lock)}; {function.name} is called"
            )
        preempt = self.newest(PREEMPT)
        if preempt is not None and not self.machine.profile.calls_global_unpreempted:
            raise Fault(
                "global function calls are not allowed with preemption disabled: "
                f"{self.describe(preempt)}; {function.name} is called"
            )

    def check_tail_call(self) -> None:
        """bpf_tail_call() in the running frame. Raises Fault.

        check_reference_leak() returns early in a subprogram: its caller still runs.
        """
        depth = len(self.machine.frames) - 1
        root = self._root(depth)
        for resource in reversed(self.live):
            section = resource.kind.place is Place.SECTION
            if resource.depth >= (root if section else depth) and (section or depth == root):
                raise Fault(f"tail_call would lead to reference leak: {self.describe(resource)}")

    def check_throw(self, boundary: int) -> None:
        """bpf_throw() that leaves the frames from number `boundary` on.

        Raises Fault for what the profile's verifier refuses. What it lets through is lost at run
        time: it moves to `leaked`.
        """
        machine = self.machine
        top = len(machine.frames) - 1
        root = self._root(top)
        lost = [r for r in self.live if r.depth >= boundary]
        for resource in reversed(lost):
            if not self._leaks_at_throw(resource, root, in_root=top == root):
                raise Fault(
                    f"{_unreleased(resource)}: bpf_throw while {self.describe(resource)} is held"
                )
        for resource in lost:
            self.live.remove(resource)
            self.leaked.append(self.describe(resource))
            machine.trace.say(f"leaked: {self.describe(resource)}")

    def _root(self, depth: int) -> int:
        """Frame where the verification of frame `depth` starts: its program or global function."""
        frames = self.machine.frames
        while frames[depth].kind != PROGRAM and frames[depth].function.linkage == "static":
            depth -= 1
        return depth

    def _leaks_at_throw(self, resource: Resource, root: int, *, in_root: bool) -> bool:
        """Whether the verifier overlooks it. `root`: the frame where verification started."""
        profile = self.machine.profile
        if resource.kind in LOCKS:
            return False
        if resource.depth < root:
            return profile.global_throw_leaks
        return profile.static_throw_leaks and resource.kind in _QUIET and not in_root


# first words of the message, as verifiers say it
_WORDS = {
    SPIN_LOCK: "function calls are not allowed while holding a lock",
    RES_SPIN_LOCK: "function calls are not allowed while holding a lock",
    RES_SPIN_LOCK_IRQ: "function calls are not allowed while holding a lock",
    RCU: "bpf_rcu_read_unlock is missing",
    PREEMPT: "bpf_preempt_enable is missing",
    IRQ: "bpf_local_irq_restore is missing",
}


def _unreleased(resource: Resource) -> str:
    return _WORDS.get(resource.kind, "Unreleased reference")


def _exits(machine: "Machine", program: "Program", function: "LinkedFunction") -> str:
    """Lines of the exits of a function: which of them ran is not recorded."""
    found = {
        machine.line(program, pc)
        for pc in range(function.start, function.end)
        if program.insns[pc].code == isa.EXIT
    } - {""}
    return f" ({' or '.join(sorted(found))})" if found else ""
