# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The values that everything passes on: Case, Observation, Difference. Frozen, no behaviour.

Standard library only: the agent carries this module into the guest. JSON both ways is in
harness/wire.py.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """How a case ended."""

    RAN = "ran"
    REJECTED = "rejected"  # libbpf or the verifier refused the program
    CRASHED = "crashed"  # oops or panic
    HUNG = "hung"  # no answer before the deadline
    LOST = "lost"  # the machine went away: infrastructure
    UNSUPPORTED = "unsupported"  # a feature that the case needs was probed absent


@dataclass(frozen=True, slots=True)
class Input:
    """What goes in. At most one of packet and ctx."""

    name: str = "default"
    # Ethernet frame, from destination MAC on
    packet: bytes | None = None
    # ctx_in of BPF_PROG_TEST_RUN (syscall: the argument struct; raw_tp: u64 args)
    ctx: bytes | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the program's own tags claim. Every field None or empty: the simulator judges."""

    verdict: Verdict | None = None
    # value of the last run as the consumer sees it (unsigned 32-bit for BPF_PROG_TEST_RUN)
    retval: int | None = None
    # patterns of the log, in order; {{...}} holds a regular expression, as in kernel selftests
    messages: tuple[str, ...] = ()
    # patterns that the log does not hold: (number of messages before it, pattern)
    unwanted: tuple[tuple[int, str], ...] = ()
    # positive errno of the refused load
    errno: int | None = None
    # final value of global variables, by name (unsigned, variable's width)
    globals: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Companion:
    """Another program that is attached while the case runs."""

    program: str
    # "freplace", "fentry", "fexit" or "fmod_ret"
    kind: str
    # function of the main program (or another companion) that it replaces or watches
    target: str
    # path of its object on the host, where that is not the main program's
    object: str = ""


@dataclass(frozen=True, slots=True)
class TailCall:
    """A slot of a prog array that holds a program of the same object while the case runs."""

    map: str
    index: int
    program: str


@dataclass(frozen=True, slots=True)
class Loading:
    """How the kernel's own test loader would load a program of an object."""

    # this program and `beside`, whatever else would load automatically
    alone: bool = False
    beside: tuple[str, ...] = ()
    # programs in "?" sections that no kernel is meant to refuse: the object's first load may take
    # them along, for each load of its own costs as much as a dozen cases
    along: tuple[str, ...] = ()
    # log_level of BPF_PROG_LOAD: 1 the refused path, 2 every instruction's state
    log_level: int = 0
    # BPF_F_* added to its prog_flags
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """One program, one input, one hook."""

    # stable name without hook and target: "throw/depth/main_static_7" or ".../parse:short"
    id: str
    # path of the compiled object on the host
    object: str
    program: str
    # section as libbpf reads it, "?" included: "tc", "?fentry/main", "xdp.frags"
    section: str
    hook: str
    input: Input = Input()
    # number of separate runs; state carries on between them
    repeat: int = 1
    expectation: Expectation = Expectation()
    # expectations for one kernel series ("6.12"), which win over the general one
    per_series: tuple[tuple[str, Expectation], ...] = ()
    # features that must be probed present, "throw" among them where bpf_throw is called
    needs: tuple[str, ...] = ()
    companions: tuple[Companion, ...] = ()
    # what goes into prog arrays before it runs, beyond what the object says itself
    tail_calls: tuple[TailCall, ...] = ()
    # tracers of the kernel that are on meanwhile: "kretprobe:FUNCTION", "function_graph:FUNCTION"
    traced: tuple[str, ...] = ()
    # why it may crash a kernel; "" for all others. Refused on --target local
    crashes: str = ""
    loading: Loading = Loading()
    # why no target tries it; "" for all others
    unsupported: str = ""
    # what its author calls it
    description: str = ""
    # what its tags claim beyond what is tried: "TAG: WHY"
    left_out: tuple[str, ...] = ()
    # of a sidecar: the object that it speaks of, and its own path
    claimed_of: str = ""
    claimed_in: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an observation comes from. Never compared."""

    # "simulator" or the target's name
    source: str = ""
    # uname -r, or the simulator's semantics profile
    kernel: str = ""
    # "kvm", "tcg", "hardware" or ""
    accelerator: str = ""
    jit: str = ""
    # of a simulator: "reference", "source", "native", or several of them
    engine: str = ""
    # "bpftool v7.5.0 using libbpf v1.5", "libbpf 1.5 (ctypes)", ...
    loader: str = ""
    # who attached: "bpf(2)", "pyroute2", "bpftool"
    attached_by: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one oracle saw of one case."""

    verdict: Verdict
    # value of each run as the hook's consumer sees it; empty where it cannot be seen (live hooks)
    retvals: tuple[int, ...] = ()
    # the matched or most useful line of the log; the reason where nothing ran
    message: str = ""
    # positive errno of the refused load
    errno: int | None = None
    # frame after the last run: test_run's data_out, or what came out on the wire
    data_out: bytes | None = None
    # map name -> hex key -> hex value; global data sections (".bss", ".data") hold
    # variable name -> hex value, after decode on the host
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    # harness.hooks.Action of each run on a live hook
    wire: tuple[str, ...] = ()
    # kernel splats in this case's log window, one string each
    splats: tuple[str, ...] = ()
    # what was left behind: "prog 17 'main'", "map 3 'hits'", "link 2"
    leaks: tuple[str, ...] = ()
    # of a simulator: why a kernel may rightly answer otherwise (an LRU map evicted, ...): then
    # nothing is held against it
    doubts: tuple[str, ...] = ()
    # full verifier or libbpf log; never compared
    log: str = ""
    # this case's window of the kernel log; never compared
    kernel_log: str = ""
    # the simulator's trace as text; never compared
    trace: str = ""
    duration_s: float = 0.0
    provenance: Provenance = Provenance()

    @property
    def retval(self) -> int | None:
        """Value of the last run, or None where it could not be seen."""
        return self.retvals[-1] if self.retvals else None


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two oracles disagree."""

    # "retval", "maps.hits[00000000]", "wire[0]"
    path: str
    expected: str
    observed: str
    # why they must be equal
    rule: str
    # the pair: ("simulator", "kernel"), ("declared", "kernel"), ("declared", "simulator"),
    # ("kernel log", "kernel")
    between: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """One row of a report: a case on a target."""

    case: Case
    target: str
    observed: Observation
    # None where the simulator has no say (a rejection is the verifier's business)
    simulated: Observation | None = None
    differences: tuple[Difference, ...] = ()
    # the same case once more, in a fresh guest, where this attempt failed; None: not tried
    again: "Result | None" = None

    @property
    def agree(self) -> bool:
        """Whether a verdict was reached and nothing differs from it."""
        return not self.differences and self.observed.verdict in (Verdict.RAN, Verdict.REJECTED)
