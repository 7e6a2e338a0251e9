# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules that any program may break, whether it throws or not: types, memory, helpers, licence.

Rows of harness.refusals, whose docstring says where the wordings are from.
"""

from harness.refusals_rule import Rule

_CONTEXT = "execution-context"
_CALL = "call-type"
_MEMORY = "memory"
_REGISTER = "register-type"
_POLICY = "policy"
_LOADER = "loader"
_VERIFIER = "kernel/bpf/verifier.c"

_TO_STACK = r"(?:unbounded )?(?:variable-offset )?(?:read from|write to|indirect access to)"

REFUSED_DATA: tuple[Rule, ...] = (
    Rule(
        "out-of-bounds", _MEMORY,
        (r"R(?P<register>\d+) unbounded memory access, .*",
         r"invalid access to (?:packet|map value|memory|mem|stack)\b.*",
         r"R(?P<register2>\d+) (?:min|max) value is (?:negative|outside of the allowed .* range).*",
         r"R(?P<register3>\d+) offset is outside of the packet",
         rf"invalid {_TO_STACK} stack R(?P<register4>\d+)(?: (?:var_)?off=.*)?"),
        "the access may lie outside of what is known to be there",
        "compare the offset or length with a bound first, in the variable that is used",
        f"check_mem_access(), {_VERIFIER}",
    ),
    Rule(
        "no-bytes", _MEMORY,
        (r"(?:R(?P<register>\d+) )?invalid zero-sized read.*",),
        "the helper needs at least one byte, and the length may be 0",
        "exclude 0: compare the length, or assert that it is at least 1",
        f"check_mem_size_reg(), {_VERIFIER}",
    ),
    Rule(
        "read-only", _MEMORY,
        (r"cannot write into (?:packet|.*map.*)", r"write into map forbidden.*",
         r"R(?P<register>\d+) cannot write into .*", r"only read is supported"),
        "what is written here may only be read",
        "copy it, and change the copy; or use the helper that writes for this program type",
        f"check_mem_access(), {_VERIFIER}",
    ),
    Rule(
        "offset-of-pointer", _REGISTER,
        (r"value -?\d+ makes \w+ pointer be out of bounds",
         r"math between \w+ pointer and (?:register with unbounded min value|-?\d+) is not allowed",
         r"R(?P<register>\d+) .* pointer arithmetic .*",
         r"R(?P<register2>\d+) pointer arithmetic .*"),
        "what is added to the pointer is not limited, or this pointer may not be moved",
        "compare the number with both of its bounds first, as unsigned where it can be",
        f"adjust_ptr_min_max_vals(), {_VERIFIER}",
    ),
    Rule(
        "not-a-pointer", _REGISTER,
        (r"R(?P<register>\d+) invalid mem access '.*'",
         r"R(?P<register2>\d+) type=.* expected=.*"),
        "the register does not hold the kind of value that is needed here",
        "check it for NULL, or pass what is asked for",
        f"check_mem_access(), check_reg_type(), {_VERIFIER}",
    ),
    Rule(
        "may-be-null", _REGISTER,
        (r"Possibly NULL pointer passed to (?:helper|trusted) (?:arg#?\d+|R(?P<register>\d+))",),
        "a kernel function is handed a pointer that may be NULL",
        "compare it with NULL first, and leave out the call",
        f"check_kfunc_args(), {_VERIFIER}",
    ),
    Rule(
        "not-owned", _REGISTER,
        (r"release (?:kernel function|kfunc|helper) \w+ expects referenced PTR_TO_BTF_ID.*",
         r"R(?P<register>\d+) must be (?:referenced|a rcu pointer)(?: or trusted)?.*",
         r"(?:arg#\d+|R(?P<register2>\d+)) pointer type .* must point to .*scalar.*"),
        "a kernel function needs an object that the program holds, or may trust, and this is none",
        "pass what an acquiring function gave, while it is held and once only",
        f"check_kfunc_args(), {_VERIFIER}",
    ),
    Rule(
        "never-written", _REGISTER,
        (r"R(?P<register>\d+) !read_ok",
         r"invalid (?:indirect )?read from stack (?:R\d+ )?(?:var_)?off .*"),
        "nobody has given this a value on the way here",
        "initialise it",
        f"check_reg_arg(), {_VERIFIER}",
    ),
    Rule(
        "context-access", _MEMORY,
        (r"invalid bpf_context access off=.*",
         r"variable ctx access var_off=.* disallowed",
         r"dereference of modified \w+ ptr R(?P<register>\d+) off=-?\d+ disallowed"),
        "the context of this program type has no such field, or it may not be used so",
        "read or write whole fields of the type's context, at constant offsets",
        f"check_ctx_access(), {_VERIFIER}",
    ),
    Rule(
        "callback-value", _CALL,
        (r"At (?:async )?callback return the register R(?P<register>\d) has .*",),
        "what a callback returns is out of the range that its helper takes; what it throws counts",
        "bpf_loop() and bpf_for_each_map_elem() take 0 and 1, timers 0; do not throw in callbacks",
        f"check_return_code(), prepare_func_exit(), {_VERIFIER}",
    ),
    Rule(
        "frame-left", _REGISTER,
        (r"cannot return stack pointer to the caller",
         r"cannot spill pointers to stack into stack frame of the caller"),
        "a pointer into a function's stack would outlive the function",
        "let the caller have the variable, and hand a pointer to it down",
        f"prepare_func_exit(), check_stack_write_fixed_off(), {_VERIFIER}",
    ),
    Rule(
        "argument-of-global", _CALL,
        (r"Arg(?:#\d+)? type \w+ in .* is not supported yet\.",
         r"arg#\d+ reference type\('.*'\) size cannot be determined.*",
         r"Caller passes invalid args into func#\d+ \('.*'\)"),
        "a global function is verified by itself, from its C types, and the call does not fit them",
        "take numbers, pointers to types of known size, or the context (__arg_ctx); or be static",
        "btf_prepare_func_args(), kernel/bpf/btf.c",
    ),
    Rule(
        "lock-of-another", _CONTEXT,
        (r"bpf_spin_lock at off=-?\d+ must be held for bpf_\w+",
         r"held lock and object are not in the same allocation"),
        "a list or tree may be changed only while the lock beside it is held",
        "take the lock that is in the same map value or section of globals as the list or tree",
        f"check_reg_allocation_locked(), {_VERIFIER}",
    ),
    Rule(
        "of-another-map", _CALL,
        (r"(?:timer|workqueue) pointer in R1 map_uid=.* doesn't match map pointer in R2 .*",),
        "the map that is named is not the one that the timer or work queue lies in",
        "name the map whose value it is",
        f"check_func_arg(), {_VERIFIER}",
    ),
    Rule(
        "atomic-elsewhere", _MEMORY,
        (r"BPF_ATOMIC stores into R(?P<register>\d+) .* is not allowed",),
        "atomic operations work on maps, the stack and arenas only",
        "count in a map value, or load and store where nobody else writes",
        f"atomic_ptr_type_ok(), {_VERIFIER}",
    ),
    Rule(
        "not-constant", _CALL,
        (r"R(?P<register>\d+) must be a known constant", r"R(?P<register2>\d+) is not a const",
         r"R(?P<register3>\d+) is not a known constant'"),
        "this argument must be the same number on every path",
        "pass a constant, such as sizeof of the buffer",
        f"check_kfunc_args(), {_VERIFIER}",
    ),
    Rule(
        "dynptr-or-iterator", _CALL,
        (r"[Ee]xpected an (?:un)?initialized \w+ as .*", r"cannot overwrite referenced dynptr",
         r"expected pointer to stack or const struct bpf_dynptr"),
        "a dynptr or iterator on the stack is made, used, and ended once; nothing else writes it",
        "make it on every path that leads here, end it before it is made again",
        f"process_dynptr_func(), process_iter_arg(), {_VERIFIER}",
    ),
    Rule(
        "helper-not-for-type", _POLICY,
        (r"program of this type cannot use helper .*", r"unknown func .*",
         r"(?:invalid func|helper call is not allowed in probe).*"),
        "programs of this type cannot call that helper in this kernel",
        "bpftool feature list_builtins helpers, and the helpers' manual page, say who may",
        f"check_helper_call(), {_VERIFIER}",
    ),
    Rule(
        "wrong-map", _CALL,
        (r"cannot pass map_type \d+ into func .*", r"expected prog array map for tail call",
         r"kernel subsystem misconfigured verifier"),
        "the helper does not work on maps of this type",
        "pass a map of the type that the helper is made for",
        f"check_map_func_compatibility(), {_VERIFIER}",
    ),
    Rule(
        "sleeps", _CONTEXT,
        (r"sleepable (?:helper|global function) .* in .*",
         r"helper call might sleep in a non-sleepable (?:prog|func)",
         r"kernel func \w+ is sleepable within .*",
         r"program must be sleepable to call sleepable kfunc \w+"),
        "the call may sleep, and here nothing may",
        "call it outside of the RCU, preempt, IRQ or lock section, or in a sleepable program (.s)",
        f"check_helper_call(), check_kfunc_call(), {_VERIFIER}",
    ),
    Rule(
        "licence", _POLICY,
        (r"cannot call (?:kernel function|GPL-restricted function) from non-GPL compatible .*",
         r"Cannot access kernel 'struct .*' from non-GPL compatible program"),
        "the program's licence is not one that is compatible with the GPL",
        'char _license[] SEC("license") = "GPL";',
        f"check_helper_call(), bpf_add_kfunc_call(), {_VERIFIER}",
    ),
    Rule(
        "core-relocation", _LOADER,
        (r"failed to resolve CO-RE relocation .*",),
        "this kernel's types do not have what the program was compiled for",
        "guard the use by bpf_core_field_exists() or bpf_core_type_exists()",
        "bpf_core_resolve_relo(), tools/lib/bpf/libbpf.c; the instruction was made invalid",
    ),
)  # fmt: skip
