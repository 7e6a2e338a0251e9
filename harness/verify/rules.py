# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What differs between the verifiers of the profiles, beyond harness.sim.semantics: data.

Source: kernel/bpf/verifier.c, btf.c and cfg.c of 6.12.107 and 7.3.4; for 6.18 the reference's
measurements.
"""

from dataclasses import dataclass, replace

from harness.sim.semantics import Profile
from harness.verify.prediction import NotModelled


@dataclass(frozen=True, slots=True)
class Rules:
    """One kernel's verifier."""

    # release whose instructions are known (harness.bpf.reserved)
    release: tuple[int, int]
    # kernel functions are looked at with the calls between functions, before anything else
    kfuncs_first: bool
    # all fields of all instructions are checked first; before: when a path comes there
    fields_first: bool
    # recursion is found in the call graph, before paths are explored
    finds_recursion: bool
    # branches on constants are decided before that
    decides_constants: bool
    # a global function may return nothing
    void_globals: bool
    # what is said of a global function that returns something else than a scalar
    bad_return: str
    bad_return_errno: int
    # of one that takes more arguments than there are registers for
    too_many_arguments: str
    # arguments beyond the fifth go on the stack
    stack_arguments: bool
    # arg: tags besides ctx, trusted, nonnull, nullable, arena
    more_argument_tags: frozenset[str]
    # programs of some types have a stack of their own for each function
    private_stacks: bool
    # a throw inside a loop of the control flow is refused by mistake (strongly connected
    # components, since 6.17)
    loses_throws_in_loops: bool
    # a packet pointer known to lie at or behind the end is like no other; where it passes for any
    # (6.18.15), a kernel takes an access for checked that it has never seen: a hole of its own
    compares_ends: bool
    # number += pointer becomes all that the pointer is, not only its type, place and id: what holds
    # it (6.18.15 goes on with an object that was given back) and whose stack it points into; and
    # number += pointer into an arena is allowed at all
    inherits_pointer: bool
    # a store at an offset that varies ends spills that it may touch, all eight bytes of them
    scrubs_around: bool
    # timers and work queues may be in maps of tracing programs; sleepable programs may use more
    # types of maps
    timers_anywhere: bool
    # a callback that tail-calls, in the exception callback only or in any
    tail_call_in_callback: str
    tail_call_in_any_callback: bool
    # what is said of the address of a function that was removed; before 6.17 to the kernel's log
    no_function_there: str


_V6_12 = Rules(
    release=(6, 12),
    kfuncs_first=True,
    fields_first=False,
    finds_recursion=False,
    decides_constants=False,
    void_globals=False,
    bad_return="Global function {name}() doesn't return scalar. Only those are supported.",
    bad_return_errno=22,
    too_many_arguments="Global function {name}() with {count} > 5 args. Buggy compiler.",
    stack_arguments=False,
    more_argument_tags=frozenset(),
    private_stacks=False,
    loses_throws_in_loops=False,
    compares_ends=True,
    inherits_pointer=True,
    scrubs_around=True,
    timers_anywhere=False,
    tail_call_in_callback="cannot tail call within exception cb",
    tail_call_in_any_callback=False,
    no_function_there="",
)
_V6_18 = replace(
    _V6_12,
    release=(6, 18),
    more_argument_tags=frozenset({"untrusted"}),
    private_stacks=True,
    loses_throws_in_loops=True,
    compares_ends=False,
    inherits_pointer=False,
    scrubs_around=False,
    no_function_there="verifier bug: No program to jit at insn {{-?[0-9]+}} (subprog < 0)",
)
_V7_3 = replace(
    _V6_18,
    release=(7, 3),
    kfuncs_first=False,
    fields_first=True,
    finds_recursion=True,
    decides_constants=True,
    compares_ends=True,
    inherits_pointer=True,
    scrubs_around=True,
    void_globals=True,
    bad_return="Global function {name}() return value not void or scalar. "
    "Only those are supported.",
    bad_return_errno=95,
    too_many_arguments="global function {name} has {count} > 5 args, stack args not supported",
    stack_arguments=True,
    timers_anywhere=True,
    tail_call_in_callback="cannot tail call within callback",
    tail_call_in_any_callback=True,
)
_RULES = {"6.12": _V6_12, "6.18": _V6_18, "7.3": _V7_3}


def rules_of(profile: Profile) -> Rules:
    """Rules of a profile. Raises NotModelled for a proposal, which no verifier exists of."""
    found = _RULES.get(profile.name)
    if found is None:
        raise NotModelled(f"profile {profile.name} is a proposal: it has no verifier to model")
    return found
