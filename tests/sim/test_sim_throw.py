# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where a throw ends, what is lost, what stays. Expected values are those measured on kernels."""

import pytest

from harness.bpf.elf import read_object
from harness.errors import UsageError
from harness.model import Companion
from harness.sim import context
from harness.sim.machine import Machine
from harness.sim.run import load
from harness.sim.semantics import profile
from harness.sim.trace import Trace

JUMP_TABLE = """
struct {{ __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4);
    __array(values, int (struct __sk_buff *)); }} jump SEC(".maps") = {{ .values = {{ {} }} }};
"""
CALLBACK = "__noinline int plus_one(__u64 cookie) { return cookie + 1; }\n"


def tail_calls(**targets):
    """Declarations, then a jump table with the targets in order."""
    declared = "".join(f"int {name}(struct __sk_buff *);\n" for name in targets)
    slots = ", ".join(f"[{i}] = (void *)&{name}" for i, name in enumerate(targets))
    return declared + JUMP_TABLE.format(slots)


def program(name, body, section="tc", tags=""):
    return f'{tags} SEC("{section}") int {name}(struct __sk_buff *ctx) {{ {body} }}\n'


@pytest.mark.parametrize(
    ("cookie", "retval"),
    [("64", 64), ("0", 0), ("-1", 0xFFFFFFFF), ("0x100000005ULL", 5), ("-5", 0xFFFFFFFB)],
)
def test_default_callback_returns_the_cookie_cut_to_32_bits(run, cookie, retval):
    assert run(program("entry", f"bpf_throw({cookie}); return 9;")).retval == retval


def test_as_proposed_the_default_callback_returns_zero(run):
    assert run(program("entry", "bpf_throw(64); return 9;"), profile="series-v1").retval == 0


def test_custom_callback_gets_the_cookie(run):
    text = CALLBACK + program("entry", "bpf_throw(64); return 9;", tags="__exception_cb(plus_one)")
    assert run(text).retval == 65


def test_custom_callback_gets_all_64_bits(run):
    text = "__noinline int high(__u64 cookie) { return cookie >> 32; }\n" + program(
        "entry", "bpf_throw(0x700000005ULL); return 9;", tags="__exception_cb(high)"
    )
    assert run(text).retval == 7


@pytest.mark.parametrize("kind", ["static ", ""])
def test_throw_in_a_subprogram_ends_the_program(run, kind):
    text = (
        "int after;\n"
        f"{kind}__noinline int inner(int x) {{ if (x > 3) bpf_throw(x); return x; }}\n"
        f"{kind}__noinline int outer(int x) {{ int r = inner(x); after++; return r + 1; }}\n"
    ) + program("entry", "int r = outer(ctx->len); after++; return r;")
    seen = run(text)
    assert seen.retval == 64
    assert seen.maps[".bss"]["after"] == "00000000"


def test_no_throw_runs_to_the_end(run):
    text = "static __noinline int inner(int x) { if (x > 99) bpf_throw(x); return x; }\n" + program(
        "entry", "return inner(ctx->len) + 1;"
    )
    assert run(text).retval == 65


def test_side_effects_before_the_throw_stay_and_runs_see_them(run):
    text = "int hits; long *p;\n" + program("entry", "hits++; bpf_throw(hits); return 0;")
    seen = run(text, repeat=3)
    assert seen.retvals == (1, 2, 3)
    assert seen.maps[".bss"]["hits"] == "03000000"


def test_callee_saved_registers_of_the_caller_survive_a_call_that_returns(run):
    text = (
        "static __noinline int busy(int x) { int a = x * 3, b = x * 5, c = x * 7;"
        ' asm volatile("" : "+r"(a), "+r"(b), "+r"(c)); return a + b + c; }\n'
        + program(
            "entry",
            "int a = ctx->len, b = a + 1; int r = busy(a); return a * 1000000 + b * 1000 + r;",
        )
    )
    assert run(text).retval == 64 * 1000000 + 65 * 1000 + 64 * 15


# the asm hides the constant: clang would put it in place of the call
SUB = """static __noinline int sub(struct __sk_buff *ctx) {
    int r = 1; bpf_tail_call(ctx, &jump, 0); asm volatile("" : "+r"(r)); return r; }
"""
TARGET = program("b", "bpf_throw(16); return 1;", tags="__target")


def test_tail_call_target_is_its_own_boundary(run):
    text = (
        tail_calls(b=1)
        + CALLBACK
        + TARGET
        + program(
            "entry", "bpf_tail_call(ctx, &jump, 0); return 9;", tags="__exception_cb(plus_one)"
        )
    )
    assert run(text).retval == 16


def test_tail_call_target_uses_its_own_callback(run):
    text = (
        tail_calls(b=1)
        + CALLBACK
        + program("b", "bpf_throw(16); return 1;", tags="__exception_cb(plus_one)")
        + program("entry", "bpf_tail_call(ctx, &jump, 0); return 9;")
    )
    assert run(text).retval == 17


def test_throw_of_a_target_called_from_a_subprogram_becomes_the_calls_value(run):
    text = tail_calls(b=1) + TARGET + SUB + program("entry", "return sub(ctx) + 8;")
    assert run(text).retval == 24


def test_value_of_a_thrown_target_can_be_thrown_again(run):
    text = (
        tail_calls(b=1)
        + TARGET
        + SUB
        + "__noinline int plus(__u64 cookie) { return cookie + 200; }\n"
        + program("entry", "bpf_throw(sub(ctx)); return 8;", tags="__exception_cb(plus)")
    )
    assert run(text).retval == 216


def test_chain_of_three_ends_in_the_last_ones_callback(run):
    text = (
        tail_calls(b=1, c=1)
        + CALLBACK
        + program("c", "bpf_throw(33); return 1;", tags="__exception_cb(plus_one)")
        + program("b", "bpf_tail_call(ctx, &jump, 1); return 2;")
        + program("entry", "bpf_tail_call(ctx, &jump, 0); return 9;")
    )
    assert run(text).retval == 34


def test_empty_slot_goes_on_and_the_own_callback_counts(run):
    text = (
        tail_calls(b=1)
        + CALLBACK
        + TARGET
        + program(
            "entry",
            "bpf_tail_call(ctx, &jump, 3); bpf_throw(8); return 1;",
            tags="__exception_cb(plus_one)",
        )
    )
    assert run(text).retval == 9


def test_tail_calls_end_after_33(run):
    text = (
        "int count;\n"
        + tail_calls(entry=1)
        + program("entry", "count++; bpf_tail_call(ctx, &jump, 0); bpf_throw(count); return 1;")
    )
    assert run(text).retval == 34


GLOBAL = '__noinline int step(int x) { asm volatile("" : "+r"(x)); return x + 1; }\n'


def test_freplace_catches_its_own_throw(run):
    text = (
        GLOBAL
        + 'SEC("?freplace/step") int ext(int x) { bpf_throw(300); return 0; }\n'
        + program("entry", "return step(5) + 1;")
    )
    assert run(text).retval == 7
    assert run(text, attach=["ext"]).retval == 301


def test_freplace_of_main_gives_the_programs_value(run):
    text = (
        'SEC("?freplace/entry") int ext(struct __sk_buff *ctx) { bpf_throw(55); return 0; }\n'
        + CALLBACK
        + program("entry", "bpf_throw(1); return 0;", tags="__exception_cb(plus_one)")
    )
    assert run(text, attach=["ext"]).retval == 55


def test_freplace_inside_an_exception_callback_goes_on(run):
    text = (
        GLOBAL
        + "__noinline int cb(__u64 cookie) { return step(cookie) + 100; }\n"
        + 'SEC("?freplace/step") int ext(int x) { bpf_throw(31); return 0; }\n'
        + program("entry", "bpf_throw(1); return 0;", tags="__exception_cb(cb)")
    )
    assert run(text).retval == 102
    assert run(text, attach=["ext"]).retval == 131


TRACING = (
    "__u64 before, after;\n"
    'SEC("?fentry/entry") int on_entry(unsigned long long *a) { before++; bpf_throw(0);'
    " return 0; }\n"
    'SEC("?fexit/entry") int on_exit(unsigned long long *a) { after = a[1]; bpf_throw(0);'
    " return 0; }\n"
)


def test_fexit_sees_the_callbacks_value_and_throws_of_its_own_change_nothing(run):
    text = TRACING + CALLBACK + program(
        "entry", "bpf_throw(34); return 0;", tags="__exception_cb(plus_one)"
    )  # fmt: skip
    seen = run(text, attach=["on_entry", "on_exit"])
    assert seen.retval == 35
    assert seen.maps[".bss"] == {"before": "0100000000000000", "after": "2300000000000000"}


@pytest.mark.parametrize("body", ["bpf_throw(1)", "inner(1)"])
def test_throw_from_a_helpers_callback_is_a_fault(run, body):
    text = (
        "static __noinline int inner(int x) { bpf_throw(x); return 0; }\n"
        f"static long each(__u32 i, void *c) {{ {body}; return 0; }}\n"
    ) + program("entry", "bpf_loop(2, each, 0, 0); return inner(2);")
    seen = run(text)
    assert seen.verdict == "rejected"
    assert "simulator fault: bpf_throw called from callback each" in seen.message


def test_throw_from_the_exception_callback_is_a_fault(run):
    text = "__noinline int cb(__u64 cookie) { bpf_throw(cookie); return 0; }\n" + program(
        "entry", "bpf_throw(1); return 0;", tags="__exception_cb(cb)"
    )
    assert "bpf_throw called from exception callback cb" in run(text).message


def test_callback_may_loop_and_write_maps(run):
    text = (
        "int sum; static long each(__u32 i, void *c) { sum += i; return 0; }\n"
        "__noinline int cb(__u64 cookie) { bpf_loop(cookie, each, 0, 0); return sum; }\n"
    ) + program("entry", "bpf_throw(6); return 0;", tags="__exception_cb(cb)")
    assert run(text).retval == 15


def chain(depth, kind):
    text = f"{kind} __noinline int f{depth}(int x) {{ bpf_throw(x); return 0; }}\n"
    for n in range(depth - 1, 0, -1):
        text += (
            f"{kind} __noinline int f{n}(int x) {{ int r = f{n + 1}(x + 1); return r + {n}; }}\n"
        )
    return text + program("entry", "return f1(70);")


@pytest.mark.parametrize(
    ("subprograms", "kind", "profile", "retval"),
    [
        (7, "static", "6.12", 76),
        (8, "static", "6.12", None),
        (8, "static", "7.3", 77),
        (15, "static", "7.3", 84),
        (16, "static", "7.3", None),
        (8, "", "6.18", None),
        (30, "", "7.3", 99),
    ],
)
def test_depth_limit_of_each_profile(run, subprograms, kind, profile, retval):
    seen = run(chain(subprograms, kind), profile=profile)
    assert seen.retval == retval
    if retval is None:
        assert "frames is too deep" in seen.message


def test_program_type_that_may_not_throw_is_rejected_as_in_its_kernel(run):
    text = 'SEC("raw_tp/x") int entry(void *ctx) { bpf_throw(5); return 0; }\n'
    old, new = (run(text, profile=name, ctx=bytes(16)) for name in ("6.18", "7.3"))
    assert old.verdict == "rejected"
    assert old.message == "calling kernel function bpf_throw is not allowed"
    assert new.retval == 5


def test_trace_tells_the_story(run):
    text = CALLBACK + (
        "static __noinline int inner(int x) { bpf_throw(x); return 0; }\n"
        "__noinline int outer(int x) { return inner(x) + 1; }\n"
    ) + program("entry", "return outer(ctx->len);", tags="__exception_cb(plus_one)")  # fmt: skip
    trace = run(text).trace
    wanted = [
        "> entry(r1=&ctx (__sk_buff))  [program]",
        "  > outer(r1=64 (0x40))  [global]",
        "    > inner(r1=64 (0x40))",
        "      ! bpf_throw(cookie=64 (0x40))",
        "    x frame of inner vanishes",
        "  x frame of outer vanishes",
        "x frame of entry vanishes: the boundary, its callback takes over",
        "> plus_one(r1=64 (0x40))  [exception callback of entry]",
        "< = 65 (0x41)",
        "result: 65 (0x41)",
    ]
    lines = trace.splitlines()
    assert [line[: len(w)] for line, w in zip(lines, wanted, strict=True)] == wanted
    assert all(len(line) <= 100 for line in lines)
    assert ".bpf.c:" in lines[0]


def test_same_case_gives_the_same_trace_twice(run):
    text = program("entry", "bpf_throw(bpf_get_prandom_u32() + bpf_ktime_get_ns()); return 0;")
    assert run(text).trace == run(text).trace


def test_extension_of_an_extension(run):
    text = (
        GLOBAL
        + '__noinline int inner(int x) { asm volatile("" : "+r"(x)); return x; }\n'
        + 'SEC("?freplace/step") int ext(int x) { return inner(x) + 10; }\n'
        + 'SEC("?freplace/inner") int ext2(int x) { bpf_throw(500); return 0; }\n'
        + program("entry", "return step(5) + 1;")
    )
    assert run(text, attach=["ext", "ext2"]).retval == 511


REPLACED = """__noinline int step(int x) { asm volatile("" : "+r"(x)); return x + 1; }
SEC("?freplace/step") int ext(int x) { return step(x) + 100; }
"""


def test_extension_that_calls_its_own_copy_of_the_function(run):
    """The main program's function is replaced; the extension's copy of it is not."""
    text = REPLACED + program("entry", "return step(5);")
    assert run(text, attach=["ext"]).retval == 106


def test_tail_call_target_keeps_its_own_copy_of_a_replaced_function(run):
    text = (
        tail_calls(b=1)
        + REPLACED
        + program("b", "return step(7);", tags="__target")
        + program("entry", "int r = step(5); bpf_tail_call(ctx, &jump, r != 106); return 1;")
    )
    assert run(text, attach=["ext"]).retval == 8


def test_watching_program_sees_the_main_programs_function_only(run):
    text = (
        "int seen;\n"
        + REPLACED
        + 'SEC("?fentry/step") int on_step(unsigned long long *a) { seen++; return 0; }\n'
        + tail_calls(b=1)
        + program("b", "return step(7);", tags="__target")
        + program("entry", "step(5); bpf_tail_call(ctx, &jump, 0); return 1;")
    )
    assert run(text, attach=["on_step"]).maps[".bss"]["seen"] == "01000000"


def test_extension_from_another_object(case_of, compiled):
    """As a loader attaches it: the extension's object holds nothing but programs."""
    text = GLOBAL + program("entry", "return step(5) + 1;")
    other = read_object(
        compiled('SEC("?freplace/step") int ext(int x) { bpf_throw(300 + x); return 0; }')
    )
    case = case_of(text)
    attached = (Companion("ext", "freplace", "step"),)
    machine = Machine(load(case.object), profile("6.12"), Trace(), companions=attached)
    machine.program_type = "tc"
    machine.adopt(other, "ext")
    given = context.build("tc", "test_run", case.input, machine.memory, machine.profile)
    assert machine.run("entry", given) == 306


def test_extension_from_another_object_that_has_globals_is_refused(case_of, compiled):
    text = 'int hits; SEC("?freplace/step") int ext(int x) { hits++; return 0; }'
    case = case_of(GLOBAL + program("entry", "return step(5);"))
    machine = Machine(load(case.object), profile("6.12"), Trace())
    with pytest.raises(UsageError, match=r"uses \.bss of its own object"):
        machine.adopt(read_object(compiled(text)), "ext")
