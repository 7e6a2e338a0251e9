# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a callback finds, what a throw leaves as it was, who cannot be attached or called.

With test_sim_throw.py: a test for each statement of docs/semantics.md about kernels' behaviour.
"""

import pytest

from harness.sim import semantics

HANDLER = '__noinline int cb(__u64 cookie) { %s }\n__exception_cb(cb) SEC("tc") '
ENTRY = "int entry(struct __sk_buff *ctx) { bpf_throw(9); return 0; }\n"


def handled(body, before=""):
    return before + HANDLER.replace("%s", body) + ENTRY


@pytest.mark.parametrize("register", ["r0", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"])
def test_callback_can_read_no_other_register(run, register):
    body = f'long v; asm volatile("%0 = {register}" : "=r"(v)); return v;'
    seen = run(handled(body))
    assert f"{register.upper()} is not initialised" in seen.message


def test_callback_has_a_stack_of_its_own_with_nothing_on_it(run):
    body = 'long v; asm volatile("%0 = *(u64 *)(r10 - 8)" : "=r"(v)); return v;'
    seen = run(handled(body))
    assert seen.verdict == "unsupported"
    assert "never written" in seen.message


def test_main_and_callback_may_both_use_the_whole_stack(run):
    body = "volatile char room[500]; room[0] = 1; room[499] = cookie; return room[0] + room[499];"
    text = handled(body).replace("bpf_throw(9)", body[: body.index("room[499]")] + "bpf_throw(9)")
    assert run(text).retval == 10


def test_callback_may_sleep_where_the_program_may(run):
    text = (
        "__noinline int cb(__u64 cookie) { char c; return bpf_copy_from_user(&c, 1, 0); }\n"
        '__exception_cb(cb) SEC("syscall") int entry(void *ctx) { bpf_throw(9); return 0; }'
    )
    assert run(text, ctx=b"").retval == 0xFFFFFFF2


def test_callback_may_call_static_and_global_functions(run):
    before = (
        "static __noinline int twice(int x) { return x * 2; }\n"
        "__noinline int inc(int x) { return twice(x) + 1; }\n"
    )
    assert run(handled("return inc(cookie);", before)).retval == 19


@pytest.mark.parametrize("kind", ["", "static "])
@pytest.mark.parametrize("body", ["return cb(1);", "if (ctx->len > 9999) return cb(1); return 3;"])
def test_callback_cannot_be_called(run, kind, body):
    """Not even by code that does not run."""
    text = (
        "__noinline int cb(__u64 cookie) { return cookie; }\n"
        f"{kind}__noinline int calls(struct __sk_buff *ctx) {{ {body} }}\n"
        '__exception_cb(cb) SEC("tc") int entry(struct __sk_buff *ctx) { return calls(ctx); }'
    )
    assert "cannot call exception cb directly" in run(text).message


def test_callback_cannot_be_a_helpers_callback(run):
    text = (
        "__noinline int cb(__u64 cookie) { return cookie; }\n"
        '__exception_cb(cb) SEC("tc") int entry(struct __sk_buff *ctx)'
        " { return bpf_loop(1, cb, 0, 0); }"
    )
    assert "callback function not static" in run(text).message


@pytest.mark.parametrize(
    ("section", "profile", "message"),
    [
        ("freplace", "6.12", "Extension programs cannot attach to exception callback"),
        ("fentry", "6.12", "FENTRY/FEXIT programs cannot attach to exception callback"),
        ("fexit", "6.18", "FENTRY/FEXIT programs cannot attach to exception callback"),
        ("fentry", "7.3", "Tracing programs cannot attach to exception callback"),
    ],
)
def test_callback_cannot_be_replaced_or_traced(run, section, profile, message):
    argument = "__u64 cookie" if section == "freplace" else "unsigned long long *c"
    other = f'SEC("?{section}/cb") int other({argument}) {{ return 0; }}\n'
    seen = run(handled("return cookie;", other), profile=profile, attach=["other"])
    assert message in seen.message


def test_static_function_cannot_be_replaced(run):
    text = (
        'static __noinline int step(int x) { asm volatile("" : "+r"(x)); return x; }\n'
        'SEC("?freplace/step") int ext(int x) { return 1; }\n'
        'SEC("tc") int entry(struct __sk_buff *ctx) { return step(5); }'
    )
    assert "step() is not a global function" in run(text, attach=["ext"]).message


WATCHED = (
    "int entered, left; __u64 value;\n"
    "static __noinline int step(int x) { if (x > 3) bpf_throw(x); return x + 1; }\n"
    'SEC("?fentry/step") int on_entry(unsigned long long *c) { entered++; value = c[0];'
    " return 0; }\n"
    'SEC("?fexit/step") int on_exit(unsigned long long *c) { left++; value = c[1]; return 0; }\n'
    'SEC("tc") int entry(struct __sk_buff *ctx) { return step(%s) + 100; }'
)


def test_fentry_of_a_subprogram_that_throws(run):
    seen = run(WATCHED.replace("%s", "ctx->len"), attach=["on_entry"])
    assert (seen.retval, seen.maps[".bss"]["entered"]) == (64, "01000000")


def test_fexit_of_a_subprogram_that_a_throw_leaves_does_not_run(run):
    """As intended; kernels up to 7.3 crash here (their walk ends at the trampoline)."""
    seen = run(WATCHED.replace("%s", "ctx->len"), attach=["on_exit"])
    assert (seen.retval, seen.maps[".bss"]["left"]) == (64, "00000000")
    calm = run(WATCHED.replace("%s", "ctx->len - 63"), attach=["on_exit"])
    assert (calm.retval, calm.maps[".bss"]["left"]) == (102, "01000000")
    assert calm.maps[".bss"]["value"] == "0200000000000000"


@pytest.mark.parametrize("kind", ["fentry", "fexit"])
def test_throw_of_a_tracing_program_leaves_a_subprograms_caller_alone(run, kind):
    text = (
        '__noinline int step(int x) { asm volatile("" : "+r"(x)); return x + 1; }\n'
        f'SEC("?{kind}/step") int watch(unsigned long long *c) {{ bpf_throw(0); return 0; }}\n'
        'SEC("tc") int entry(struct __sk_buff *ctx) { return step(41); }'
    )
    assert run(text, attach=["watch"]).retval == 42


def test_packet_and_callers_stack_stay_as_they_were_written(run):
    text = (
        "__noinline int cb(__u64 cookie) { return cookie; }\n"
        "static __noinline int deep(char *data, long *slot) {"
        ' *slot = 5; data[0] = 0x77; asm volatile("" ::: "memory"); bpf_throw(*slot); return 0; }\n'
        '__exception_cb(cb) SEC("tc") int entry(struct __sk_buff *ctx) {'
        " char *data = (void *)(long)ctx->data; long slot = 0;"
        " if (data + 1 > (char *)(long)ctx->data_end) return 1; return deep(data, &slot); }"
    )
    seen = run(text)
    assert seen.retval == 5
    assert seen.data_out[0] == 0x77


def test_effects_of_helpers_stay(run):
    text = (
        'SEC("xdp") int entry(struct xdp_md *ctx) {'
        " bpf_xdp_adjust_head(ctx, 14); bpf_throw(XDP_PASS); return XDP_DROP; }"
    )
    seen = run(text)
    assert (seen.retval, len(seen.data_out)) == (2, 50)


def test_throw_in_the_callback_of_a_walk_through_a_map_is_a_fault(run):
    text = (
        "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32);"
        ' __type(value, __u64); } m SEC(".maps");\n'
        "static long each(void *map, __u32 *k, __u64 *v, void *c) { bpf_throw(1); return 0; }\n"
        'SEC("tc") int entry(struct __sk_buff *ctx)'
        " { return bpf_for_each_map_elem(&m, each, 0, 0); }"
    )
    assert "bpf_throw called from callback each" in run(text).message


def test_tail_call_from_the_callback_is_a_fault(run):
    """A verifier refuses it too: there is no context to pass."""
    before = """int b(struct __sk_buff *);
    struct __sk_buff *kept;
    struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4);
        __array(values, int (struct __sk_buff *)); } jump SEC(".maps") = {
        .values = { [0] = (void *)&b } };
    SEC("tc") int b(struct __sk_buff *ctx) { return 1; }
    """
    text = handled("bpf_tail_call(kept, &jump, 0); return 0;", before)
    text = text.replace("bpf_throw(9)", "kept = ctx; bpf_throw(9)")
    assert "bpf_tail_call from exception callback" in run(text).message


ALL_KERNELS = ("6.12", "6.18", "7.3")


@pytest.mark.parametrize(
    ("types", "profiles"),
    [
        # reference: the table of program types, measured
        ("tc xdp syscall tracepoint perf_event cgroup_skb cgroup_sock cgroup_device cgroup_sysctl"
         " cgroup_sockopt cgroup_sock_addr fentry fexit fmod_ret tp_btf iter lsm struct_ops"
         " freplace", ALL_KERNELS),
        ("sock_ops", ("6.18", "7.3")),
        ("raw_tp", ("7.3",)),
        ("socket_filter kprobe sched_act lwt_in lwt_out lwt_xmit sk_skb sk_msg raw_tp_writable"
         " sk_reuseport flow_dissector sk_lookup netfilter", ()),
    ],
)  # fmt: skip
def test_program_types_that_may_throw(types, profiles):
    for kind in types.split():
        allowed = {n for n in ALL_KERNELS if kind in semantics.profile(n).throw_types}
        assert allowed == set(profiles), kind


@pytest.mark.parametrize(
    ("section", "context", "verdict", "meaning"),
    [
        ("xdp", "struct xdp_md", "XDP_TX", 3),
        ("tc", "struct __sk_buff", "TC_ACT_REDIRECT", 7),
        ("tc", "struct __sk_buff", "0x1FFFFFFFFULL", 0xFFFFFFFF),
        ("syscall", "void", "-7", 0xFFFFFFF9),
    ],
)
def test_consumer_takes_32_bits_of_the_value(run, section, context, verdict, meaning):
    text = f'SEC("{section}") int entry({context} *ctx) {{ bpf_throw({verdict}); return 0; }}'
    options = {"ctx": b""} if section == "syscall" else {}
    assert run(text, **options).retval == meaning


def test_fexit_sees_all_64_bits_of_the_value(run):
    text = (
        "__u64 seen;\n"
        'SEC("?fexit/entry") int watch(unsigned long long *c) { seen = c[1]; return 0; }\n'
        'SEC("tc") int entry(struct __sk_buff *ctx) { bpf_throw(0x700000005ULL); return 0; }'
    )
    seen = run(text, attach=["watch"])
    assert seen.maps[".bss"]["seen"] == "0500000007000000"
    assert seen.retval == 5
