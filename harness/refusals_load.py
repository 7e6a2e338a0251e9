# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules that are met before or behind every path: maps, sections, what attaches to what, the JIT.

Rows of harness.refusals, which describes where the wordings are from.
"""

from harness.refusals_rule import Rule

_STRUCTURE = "program-structure"
_CONTEXT = "execution-context"
_POLICY = "policy"
_LOADER = "loader"

_VERIFIER = "kernel/bpf/verifier.c"

REFUSED_LOADS: tuple[Rule, ...] = (
    Rule(
        "load-in-callback", _CONTEXT,
        (r"cannot use BPF_LD_\[ABS\|IND\] within callback",),
        "a callback may not load from the packet by LD_ABS or LD_IND, which may end the program",
        "load in the main program, or use bpf_skb_load_bytes()",
        f"check_max_stack_depth_subprog(), {_VERIFIER}",
        "7.3; before, an exception callback could hold one that is never reached",
    ),
    Rule(
        "callback-of-helper", _STRUCTURE,
        (r"callback function not static",),
        "what a helper calls back must be a static function; an exception callback is a global one",
        "write a static function for the helper; both may call a third one",
        f"check_ld_imm(), {_VERIFIER}",
    ),
    Rule(
        "recursion", _STRUCTURE,
        (r"recursive call from .* to .*",),
        "a function calls itself",
        "write a loop, with a bound",
        f"sort_subprogs_topo(), {_VERIFIER}",
        "7.3 says so; before, the calls are too deep",
    ),
    Rule(
        "argument-unknown", _STRUCTURE,
        (r"arg#\d+ reference type\('.*'\) size cannot be determined.*",),
        "a global function points to something whose size nobody knows",
        "point to a complete type; an exception callback takes no pointer at all",
        "btf_prepare_func_args(), kernel/bpf/btf.c",
    ),
    Rule(
        "removed-function", _STRUCTURE,
        (r"verifier bug: No program to jit at insn \d+ \(subprog < 0\).*",),
        "the address is taken of a function that nobody calls, which the kernel removes: its bug",
        "call the function, or do not take its address",
        "bpf_jit_subprogs(), kernel/bpf/fixups.c",
        "known of 6.12, which says why in the kernel log only, and of all since",
    ),
    # what attaches to a program
    Rule(
        "return-value-of-program", _POLICY,
        (r"can't modify return codes of BPF programs?",),
        "fmod_ret programs attach to kernel functions only",
        "freplace the function, or watch it by fentry or fexit",
        f"bpf_check_attach_target(), {_VERIFIER}",
    ),
    Rule(
        "replaces-static", _POLICY,
        (r".*\(\) is not a global function", r"Cannot replace static functions"),
        "freplace programs replace global functions only",
        "leave out static, and keep it from being inlined: __noinline",
        "btf_check_type_match(), kernel/bpf/btf.c",
    ),
    Rule(
        "replaces-another-shape", _POLICY,
        (r".*has \d+ args while .*\(\) has \d+ args",
         r"Return type \S+ of \S+\(\) doesn't match type \S+ of \S+\(\)"),
        "a freplace program takes and returns what the function does that it replaces",
        "give it the same parameters and the same type",
        "btf_check_func_type_match(), kernel/bpf/btf.c",
    ),
    # libbpf
    Rule(
        "map-not-created", _LOADER,
        (r"map '(?P<name>.*)': failed to create: .*",
         r"map '(?P<name2>.*)': failed to re-mmap\(\) contents: .*"),
        "a map could not be made, so the verifier was never asked",
        "look at its type, flags, max_entries and sizes: EINVAL is a wrong one, ENOMEM or E2BIG "
        "too much; a .data section that holds a lock or a tree wants __hidden variables",
        "bpf_object__create_maps(), tools/lib/bpf/libbpf.c, with the errno of BPF_MAP_CREATE",
    ),
    Rule(
        "section-unknown", _LOADER,
        (r"failed to guess program type from ELF section '.*'",),
        "the name of the section says no type of program",
        "spell it as libbpf does: its list of sections is in the log",
        "libbpf_prog_type_by_name(), tools/lib/bpf/libbpf.c",
    ),
    Rule(
        "target-unknown", _LOADER,
        (r"prog '.*': failed to find kernel BTF type ID of '(?P<name>.*)'.*",),
        "this kernel has no such function to attach to",
        "mind the spelling; it may be inlined, renamed or in a module that is not loaded",
        "libbpf_find_attach_btf_id(), tools/lib/bpf/libbpf.c",
    ),
)  # fmt: skip
