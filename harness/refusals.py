# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Why loads are refused: one row a rule, with every wording that kernels and libbpf have for it.

Owns the table that tells "same rule, other wording" from "other rule". Wordings are those of
kernel/bpf/verifier.c and btf.c of 6.12.107 and 7.3.4, of 6.18.15 as it was seen to speak, and of
libbpf 1.5. Functions are where 7.3 says it. Reads messages only, not logs.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from harness.refusals_data import REFUSED_DATA
from harness.refusals_load import REFUSED_LOADS
from harness.refusals_rule import (
    CALL,
    CONTEXT,
    POLICY,
    RESOURCE,
    STRUCTURE,
    VERIFIER,
    Rule,
)


class Found(NamedTuple):
    """A rule and the messages that it was recognised by."""

    rule: Rule
    messages: tuple[str, ...]
    # the named parts of the wordings, one dict a message: "insn", "register", "taken", ...
    parts: tuple[dict[str, str], ...]

    def numbers(self, name: str) -> list[int]:
        """Every value of that part that is a number."""
        return [int(each[name]) for each in self.parts if each.get(name, "").isdecimal()]


_AT = r"(?:BPF_EXIT instruction in main prog|BPF_EXIT instruction|bpf_throw|tail_call|BPF_LD_.*)"

RULES: tuple[Rule, ...] = (
    # what is held
    Rule(
        "reference-held", RESOURCE,
        (r"Unreleased reference id=# alloc_insn=(?P<taken>\d+)",
         rf"{_AT} would lead to reference leak"),
        "a reference is still held here, and a throw releases nothing",
        "release it before the throw, on every path that leads here",
        f"check_reference_leak(), {VERIFIER}",
        "6.7; since 7.3 also where a global function that may throw is called",
    ),
    Rule(
        "rcu-held", CONTEXT,
        (r"bpf_rcu_read_unlock is missing",
         rf"{_AT} cannot be used inside bpf_rcu_read_lock-ed region"),
        "the RCU read lock is still held here, and a throw does not give it back",
        "call bpf_rcu_read_unlock() first",
        f"check_resource_leak(), {VERIFIER}",
        "6.7 in the main function; since 7.3 in static functions and for global ones as well",
        r"bpf_rcu_read_lock",
    ),
    Rule(
        "preemption-disabled", CONTEXT,
        (r"\d+ bpf_preempt_enable(?:\(s\) are| is) missing",
         rf"{_AT} cannot be used inside bpf_preempt_disable-ed region",
         r"global function calls are not allowed with preemption disabled.*"),
        "preemption is still disabled here, and a throw does not enable it",
        "call bpf_preempt_enable() first",
        f"check_resource_leak(), {VERIFIER}",
        "6.10 in the main function; since 7.3 in static functions as well",
        r"bpf_preempt_disable",
    ),
    Rule(
        "interrupts-disabled", CONTEXT,
        (rf"{_AT} cannot be used inside bpf_local_irq_save-ed region",),
        "interrupts are still disabled here, and a throw does not enable them",
        "call bpf_local_irq_restore() first",
        f"check_resource_leak(), {VERIFIER}",
        "6.14 in the main function; since 7.3 in static functions as well",
        r"bpf_local_irq_save",
    ),
    Rule(
        "lock-held", CONTEXT,
        (r"(?:global )?function calls are not allowed while holding a lock.*",
         r"bpf_spin_unlock is missing",
         rf"{_AT} cannot be used inside bpf_(?:res_)?spin_lock-ed region"),
        "a spin lock is held here: nothing may be called, and nothing may be thrown",
        "release the lock first",
        f"do_check_insn(), {VERIFIER}",
        taken_by=r"bpf_(?:res_)?spin_lock(?:_irqsave)?",
    ),
    # the throw itself
    Rule(
        "cookie-is-no-number", CALL,
        (r"R1 is not a scalar", r"variable \? access var_off=.* disallowed"),
        "the cookie must be a number that is known to have a value",
        "throw a number; a pointer would leak an address",
        f"check_kfunc_args(), {VERIFIER}",
        "6.7",
    ),
    Rule(
        "type-may-not-throw", POLICY,
        (r"calling kernel function bpf_throw is not allowed",),
        "programs of this type may not throw in this kernel",
        "return the value instead",
        f"check_kfunc_call(), {VERIFIER}",
        "6.7; 6.18 lets sock_ops throw, 7.3 raw tracepoints",
    ),
    Rule(
        "throw-in-loop", STRUCTURE,
        (r"(?:verifier bug: )?scc exit: no visit info for call chain.*",),
        "the throw stands inside a loop, and this kernel loses count of such loops: its bug",
        "put the throw behind the loop: break out, and throw there",
        "maybe_exit_scc(), kernel/bpf/states.c",
        "6.17; 6.12 takes such programs",
    ),
    Rule(
        "value-out-of-range", CALL,
        (r"At program exit the register R(?P<register>\d) has .* should have been in \[.*\]",),
        "what the program returns, or throws without a callback, is out of its type's range",
        "bound the value, or name an exception callback that returns one in the range",
        f"check_return_code(), {VERIFIER}",
        "6.7; since 7.3 also for throws in global functions",
    ),
    # callbacks
    Rule(
        "throw-in-callback", CONTEXT,
        (r"bpf_throw kfunc \(insn (?P<insn>\d+)\) cannot be called from callback subprog \d+",),
        "a callback may not throw, nor may what it calls: no throw can cross the helper above it",
        "have the callback return a value that says so, and throw behind the helper's call",
        f"check_max_stack_depth_subprog(), {VERIFIER}",
        "6.7",
    ),
    Rule(
        "callback-called", STRUCTURE,
        (r"insn (?P<insn>\d+) cannot call exception cb directly",),
        "the exception callback may not be called like a function",
        "put what both need into a function of its own",
        f"check_max_stack_depth_subprog(), {VERIFIER}",
        "6.7",
    ),
    Rule(
        "tail-call-in-callback", CONTEXT,
        (r"cannot tail call within (?:exception cb|callback)",),
        "a callback may not make tail calls",
        "make the tail call in the main program",
        f"check_max_stack_depth_subprog(), {VERIFIER}",
        "6.7; since 7.3 in any callback",
    ),
    Rule(
        "callback-named-twice", STRUCTURE,
        (r"multiple exception callback tags for main subprog",),
        "the program names more than one exception callback",
        "keep one __exception_cb(...)",
        f"bpf_find_exception_callback_insn_off(), {VERIFIER}",
        "6.7",
    ),
    Rule(
        "callback-unknown", STRUCTURE,
        (r"exception callback '(?P<name>.*)' could not be found in BTF",
         r"prog '.*': cannot find exception callback '(?P<name2>.*)'",
         r"prog '.*': exception_callback:.* decl tag contains empty value"),
        "the exception callback that the program names is not there",
        "define it as a global function; mind the spelling",
        "bpf_prog_assign_exc_cb(), tools/lib/bpf/libbpf.c, before any kernel is asked",
        "libbpf 1.3",
    ),
    Rule(
        "callback-not-global", STRUCTURE,
        (r"exception callback '.*' must have global linkage",
         r"prog '.*': exception callback .* must be a global non-hidden function",
         r"prog '.*': exception_callback:.* decl tag not applied to the main program"),
        "the exception callback must be a global function, and its tag stand on the main program",
        "leave out static and __hidden",
        "bpf_prog_assign_exc_cb(), tools/lib/bpf/libbpf.c, before any kernel is asked",
        "libbpf 1.3",
    ),
    Rule(
        "callback-without-func-info", STRUCTURE,
        (r"exception callback type id not found in func_info",
         r"invalid exception callback insn_off in func_info: 0"),
        "the kernel cannot find the exception callback's code",
        "load it with libbpf 1.3 or newer; do not name the program itself",
        f"bpf_find_exception_callback_insn_off(), {VERIFIER}",
        "6.7",
    ),
    Rule(
        "callback-takes", STRUCTURE,
        (r"exception cb only supports single integer argument",),
        "the exception callback takes one number, the cookie, and nothing else",
        "declare it as int name(__u64 cookie)",
        f"do_check_common(), {VERIFIER}",
        "6.7",
    ),
    Rule(
        "callback-returns", STRUCTURE,
        (r"Global function .*\(\) doesn't return scalar\. Only those are supported\.",
         r"Global function .*\(\) return value not void or scalar\. Only those are supported\.",
         r"exception cb cannot return void"),
        "what the exception callback returns is the program's return value: it must be a number",
        "declare it as int name(__u64 cookie)",
        "btf_prepare_func_args(), kernel/bpf/btf.c",
        "6.7; 7.3 says EOPNOTSUPP for a pointer, and lets other global functions return nothing",
    ),
    Rule(
        "attached-to-callback", POLICY,
        (r".* programs cannot attach to exception callback",),
        "no program may replace or watch an exception callback",
        "watch the main program, or a function that the callback calls",
        f"bpf_check_attach_target(), {VERIFIER}",
        "6.7",
    ),
    # structure
    Rule(
        "falls-through", STRUCTURE,
        (r"last insn is not an exit or jmp",),
        "a function must end in a return or a jump: a throw does not count",
        "do not mark bpf_throw noreturn; put a return behind the last throw",
        f"check_subprogs(), {VERIFIER}",
        "6.7",
    ),
    Rule(
        "calls-too-deep", STRUCTURE,
        (r"the call stack of \d+ frames is too deep(?: !)?",),
        "too many functions call each other",
        "inline some of them (__always_inline)",
        f"check_max_stack_depth_subprog(), {VERIFIER}",
        "8 frames to 6.18; 16 since 7.3, where the count begins anew at global functions",
    ),
    Rule(
        "stacks-too-large", STRUCTURE,
        (r"combined stack size of \d+ calls is \d+\. Too large",),
        "the stacks of functions that call each other may take 512 bytes together",
        "move what is large into a map",
        f"check_max_stack_depth_subprog(), {VERIFIER}",
    ),
    Rule(
        "unreachable", STRUCTURE,
        (r"unreachable insn (?P<insn>\d+)",),
        "an instruction can never be reached",
        "remove it",
        "bpf_check_cfg(), kernel/bpf/cfg.c",
    ),
    Rule(
        "endless", STRUCTURE,
        (r"infinite loop detected at insn (?P<insn>\d+)",
         r"back-edge from insn (?P<from>\d+) to .*",
         r"BPF program is too large\. Processed \d+ insn"),
        "the verifier cannot see that this ends",
        "bound the loop by a constant, or use bpf_loop() or can_loop",
        f"do_check(), {VERIFIER}; bpf_is_state_visited(), kernel/bpf/states.c",
    ),
    # what a kernel lacks
    Rule(
        "no-exceptions", POLICY,
        (r"kfunc 'bpf_throw' is referenced but wasn't resolved",
         r"extern \(func ksym\) 'bpf_throw': not found in kernel or module BTFs"),
        "this kernel has no bpf_throw",
        "a kernel of version 6.7 or later, with CONFIG_DEBUG_INFO_BTF and CONFIG_NET",
        "libbpf, which found no such function in the kernel's BTF",
        "6.7 has it",
    ),
    Rule(
        "no-such-kfunc", POLICY,
        (r"kfunc '(?P<name>\w+)' is referenced but wasn't resolved",
         r"extern \(func ksym\) '(?P<name2>\w+)': not found in kernel or module BTFs",
         r"calling kernel function (?P<name3>\w+) is not allowed"),
        "this kernel does not have that function, or not for programs of this type",
        "declare it __weak, and guard the call by bpf_ksym_exists()",
        f"check_kfunc_call(), {VERIFIER}, or libbpf",
    ),
    Rule(
        "no-jit", POLICY,
        (r"JIT is required for calling kernel function",
         r"JIT does not support calling kfunc bpf_throw",
         r"calling kernel functions? (?:are|is) not allowed in non-JITed programs",
         r"program requires BPF JIT compiler but it is not available"),
        "throwing needs the JIT, and an architecture whose stacks the kernel can walk",
        "sysctl net.core.bpf_jit_enable=1; on x86-64 CONFIG_UNWINDER_ORC",
        f"bpf_add_kfunc_call(), {VERIFIER}",
        "6.7 on x86-64, 6.9 on arm64, 6.12 on s390, 7.3 on powerpc64",
    ),
    *REFUSED_LOADS,
    *REFUSED_DATA,
)  # fmt: skip

_BY_NAME = {rule.name: rule for rule in RULES}
_PATTERNS = tuple((rule, re.compile(wording)) for rule in RULES for wording in rule.wordings)


def rule_of(messages: Sequence[str]) -> Found | None:
    """The rule behind normalised messages: of the last one that any row knows; None: none does.

    Other messages of the same rule go with it: which references are held, where they were taken.
    """
    known = [found for message in messages if (found := _recognised(message))]
    if not known:
        return None
    rule = known[-1][0]
    own = [found for found in known if found[0] is rule]
    return Found(rule, tuple(message for _, message, _ in own), tuple(parts for *_, parts in own))


def named(name: str) -> Rule:
    """The rule of that name; KeyError where there is none."""
    return _BY_NAME[name]


def _recognised(message: str) -> tuple[Rule, str, dict[str, str]] | None:
    for rule, pattern in _PATTERNS:
        if match := pattern.fullmatch(message):
            # a name may stand once in a pattern: name, name2, ...
            parts = {k.rstrip("0123456789"): text for k, text in match.groupdict().items() if text}
            return rule, message, parts
    return None
