# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""No program crashes the simulator, hangs it or makes it grow without bound."""

import re
import sys

import pytest

RECURSION = """
static __noinline int down(int n);
static __noinline int down(int n) { if (n < 0) return 0; int r = down(n + 1);
    asm volatile("" : "+r"(r)); return r; }
"""


def tc(body, before=""):
    return f'{before}\nSEC("tc") int entry(struct __sk_buff *ctx) {{ {body} }}\n'


@pytest.mark.parametrize("profile", ["6.12", "7.3", "cleanup"])
def test_recursion_ends(run, profile):
    seen = run(tc("return down(1);", RECURSION), profile=profile)
    assert seen.verdict == "rejected"
    assert "frames is too deep" in seen.message


@pytest.mark.parametrize("trace", [False, "full"])
def test_recursion_through_global_functions_ends(run, trace):
    """7.3 counts frames again from each of them."""
    text = tc("return down(1);", RECURSION.replace("static ", ""))
    seen = run(text, profile="7.3", trace=trace)
    assert seen.verdict == "unsupported"
    assert "more than 128 frames" in seen.message


def test_recursion_through_callbacks_ends(run):
    before = "static long each(__u32 i, void *c) { return bpf_loop(2, each, 0, 0); }"
    seen = run(tc("return bpf_loop(2, each, 0, 0);", before))
    assert seen.verdict in ("rejected", "unsupported")
    assert "frames" in seen.message


def test_recursion_through_tail_calls_from_subprograms_ends(run):
    before = """int entry(struct __sk_buff *);
    struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1);
        __uint(key_size, 4); __array(values, int (struct __sk_buff *)); }
        jump SEC(".maps") = { .values = { [0] = (void *)&entry } };
    static __noinline int sub(struct __sk_buff *ctx) {
        int r = 1; bpf_tail_call(ctx, &jump, 0); asm volatile("" : "+r"(r)); return r; }"""
    assert run(tc("return sub(ctx) + 1;", before)).retval == 35


def test_frames_of_the_deepest_stack_fit_into_pythons(run):
    """Each frame costs several of Python's: 128 must fit into what is left of them here."""
    used = 0
    frame = sys._getframe()
    while frame:
        used, frame = used + 1, frame.f_back
    text = tc("return down(1);", RECURSION.replace("static ", ""))
    seen = run(text, profile="7.3")
    assert used < sys.getrecursionlimit() // 2
    assert "more than 128 frames" in seen.message


ENDLESS = [
    'for (;;) asm volatile("");',
    "for (;;) bpf_ktime_get_ns();",
    "bpf_loop(1 << 23, each, 0, 0);",
    "for (;;) bpf_loop(9, each, 0, 0);",
]


@pytest.mark.parametrize("body", ENDLESS)
def test_loop_without_end_uses_up_the_budget(run, body):
    before = "static __attribute__((unused)) long each(__u32 i, void *c) { return 0; }"
    seen = run(tc(f"{body} return 0;", before), budget=100_000, trace=False)
    assert seen.message.startswith("unsupported: instruction budget used up")


GROWING = {
    "hash": (
        "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1 << 30);"
        ' __type(key, __u32); __uint(value_size, 4000); } m SEC(".maps"); char big[4000];',
        "for (__u32 k = 0; ; k++) bpf_map_update_elem(&m, &k, big, 0);",
    ),
    "ring buffer": (
        "struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 30); }"
        ' rb SEC(".maps");',
        "for (;;) { void *p = bpf_ringbuf_reserve(&rb, 1 << 20, 0); if (!p) break; }",
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_memory_has_an_end(run, name):
    before, body = GROWING[name]
    seen = run(tc(f"{body} return 0;", before), trace=False)
    assert seen.verdict == "unsupported"
    assert "more than 192 MiB of memory" in seen.message


def test_many_runs_take_the_memory_of_one(run, monkeypatch):
    monkeypatch.setattr("harness.sim.memory.MAX_BYTES", 64 << 10)
    seen = run(tc("return ctx->len;"), repeat=500, trace=False)
    assert seen.retvals == (64,) * 500


@pytest.mark.parametrize(
    ("section", "context", "longest"),
    [("tc", "__sk_buff", 3712), ("cgroup_skb/ingress", "__sk_buff", 3712), ("xdp", "xdp_md", 3520)],
)
def test_frame_of_more_than_a_page_is_unsupported(run, section, context, longest):
    """The lengths that kernels of these series took, and what they did with a byte more."""
    text = f'SEC("{section}") int entry(struct {context} *ctx) {{ return 1; }}'
    refuses = "BPF_PROG_TEST_RUN refuses it: on {} a .* program gets at most 3712$"
    fragments = f"over {longest} it has fragments$"
    for profile in ("6.12", "6.18", "7.3"):
        fits = run(text, packet=bytes(longest), profile=profile)
        assert (fits.retval, len(fits.data_out)) == (1, longest)
        seen = run(text, packet=bytes(longest + 1), profile=profile)
        assert seen.verdict == "unsupported"
        refused = longest == 3712 and profile != "7.3"
        words = refuses.format(profile) if refused else fragments
        assert re.search(f"frame of {longest + 1} bytes: {words}", seen.message)


def test_long_frame_on_a_live_hook(run):
    """What an interface takes is its own affair."""
    assert run(tc("return 0;"), packet=bytes(4000), hook="tc-ingress").verdict == "ran"
