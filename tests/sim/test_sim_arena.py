# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arenas: pages, pointers of 32 bits, and accesses to pages that are not there."""

import pytest

from harness.build import build
from harness.model import Verdict
from harness.sim import Machine

BASE = (1 << 44) + 0x10000
PAGE = 4096
PRELUDE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define __arena __attribute__((address_space(1)))
#define __mapped(pages, base) __uint(type, 33); __uint(map_flags, FLAGS); \\
    __uint(max_entries, pages); enum { __unique_value = base } map_extra
#ifndef FLAGS
#define FLAGS BPF_F_MMAPABLE
#endif
#ifndef PAGES
#define PAGES 8
#endif
#ifndef BASE
#define BASE (0x1ull << 44 | 0x10000)
#endif
struct { __mapped(PAGES, BASE); } arena SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
    __type(value, int); } other SEC(".maps");
extern void __arena *bpf_arena_alloc_pages(void *, void __arena *, __u32, int, __u64)
    __attribute__((section(".ksyms")));
extern void bpf_arena_free_pages(void *, void __arena *, __u32) __attribute__((section(".ksyms")));
extern int bpf_arena_reserve_pages(void *, void __arena *, __u32)
    __attribute__((section(".ksyms"))) __attribute__((weak));
#define AT(n) ((void __arena *)(BASE + (n) * 4096ull))
#define ALLOC(at, n) ((__u64)bpf_arena_alloc_pages(&arena, (void __arena *)(at), n, -1, 0))
#define FREE(at, n) bpf_arena_free_pages(&arena, (void __arena *)(at), n)
#define USE() FREE(0, 1)
__u64 out[6];
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def machine(tmp_path):
    """A function: body of a syscall program (and what is before it) -> a machine with it."""

    def made(body, before="", profile="7.3", engine="auto", section="syscall", defines=""):
        source = tmp_path / f"t{len(list(tmp_path.iterdir()))}.bpf.c"
        source.write_text(
            f"{defines}\n{PRELUDE}\n{before}\n"
            f'SEC("{section}") int t(void *ctx) {{ {body}\n return 0; }}\n'
        )
        (path,) = build([source], tmp_path / "out")
        return Machine(path, profile=profile, engine=engine)

    return made


@pytest.fixture
def out(machine):
    """A function: body -> what it left in `out`, as numbers, after a run that must succeed."""

    def ran(body, **options):
        used = machine(body, **options)
        seen = used.run("t")
        assert seen.verdict is Verdict.RAN, seen.message
        data = used.variable("out")
        return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]

    return ran


def page(number):
    return BASE + number * PAGE


def test_page_is_zero_at_first_and_keeps_what_is_written(machine):
    body = """
        __u32 __arena *p = AT(2);
        if (!*p) ALLOC(p, 1);
        out[0] = p[1];
        p[1] += 3; *p = 1;
        out[1] = p[1];"""
    used = machine(body)
    for expected in (3, 6, 9):
        used.run("t")
        assert used.variable("out")[8:16] == expected.to_bytes(8, "little")


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_missing_page_reads_as_zero_and_ignores_writes(out, size):
    body = f"""
        volatile __u{size} __arena *p = AT(5);
        USE(); out[0] = 77; *p = 9; out[0] = *p; out[1] = 1;
        ALLOC(p, 1); out[2] = *p; *p = 9; out[3] = *p; FREE(p, 1); out[4] = *p;"""
    assert out(body) == [0, 1, 0, 9, 0, 0]


def test_access_that_runs_into_a_missing_page_does_nothing(out):
    body = """
        volatile __u64 __arena *p = (void __arena *)((char __arena *)AT(3) + 4092);
        volatile __u32 __arena *low = (volatile void __arena *)p;
        ALLOC(AT(3), 1);
        *low = 5; *p = ~0ull; out[0] = *p; out[1] = *low;
        ALLOC(AT(4), 1); *p = ~0ull; out[2] = *p;"""
    assert out(body)[:3] == [0, 5, (1 << 64) - 1]


def test_pages_outside_of_the_arena_are_never_there(out):
    body = """
        volatile __u32 __arena *p = AT(0); volatile __u32 __arena *behind = AT(8);
        out[0] = ALLOC(p, 8);
        p[-1] = 3; *behind = 3; out[1] = p[-1]; out[2] = *behind;"""
    assert out(body)[:3] == [BASE, 0, 0]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("bpf_arena_alloc_pages(&arena, 0, 8, -1, 0)", BASE),
        ("bpf_arena_alloc_pages(&arena, 0, 9, -1, 0)", 0),
        ("bpf_arena_alloc_pages(&arena, 0, 0, -1, 0)", 0),
        ("bpf_arena_alloc_pages(&arena, 0, 1, -1, 1)", 0),
        ("bpf_arena_alloc_pages(&arena, 0, 1, 0, 0)", BASE),
        ("bpf_arena_alloc_pages(&arena, 0, 1, 1, 0)", 0),
        ("bpf_arena_alloc_pages(&arena, 0, 1, -2, 0)", 0),
        ("bpf_arena_alloc_pages(&other, 0, 1, -1, 0)", 0),
        ("bpf_arena_alloc_pages(&arena, AT(7), 1, -1, 0)", page(7)),
        ("bpf_arena_alloc_pages(&arena, AT(7), 2, -1, 0)", 0),
        ("bpf_arena_alloc_pages(&arena, AT(8), 1, -1, 0)", 0),
        ("bpf_arena_alloc_pages(&arena, AT(-1), 1, -1, 0)", 0),
        ("bpf_arena_alloc_pages(&arena, (char __arena *)AT(1) + 8, 1, -1, 0)", 0),
        # only 32 bits of an address count
        ("bpf_arena_alloc_pages(&arena, (void __arena *)0x11000ull, 1, -1, 0)", page(1)),
    ],
)
@pytest.mark.parametrize("profile", ["6.12", "7.3"])
def test_alloc_at_its_limits(out, profile, call, expected):
    assert out(f"USE(); out[0] = (__u64){call};", profile=profile)[0] == expected


@pytest.mark.parametrize(
    ("profile", "pages"),
    # 6.12 takes the lowest pages; later ones look for the smallest range that is big enough
    [("6.12", [1, 3, 5]), ("6.18", [5, 7, 1]), ("7.3", [5, 7, 1])],
)
def test_which_pages_are_given_out(out, profile, pages):
    body = """
        ALLOC(0, 8); FREE(AT(1), 3); FREE(AT(5), 2);
        out[0] = ALLOC(0, 2); FREE(AT(7), 1); out[1] = ALLOC(0, 1); out[2] = ALLOC(0, 2);"""
    assert out(body, profile=profile)[:3] == [page(number) for number in pages]


def test_of_equal_ranges_the_one_that_came_last_is_taken(out):
    body = """
        ALLOC(0, 8); FREE(AT(6), 1); FREE(AT(2), 1); FREE(AT(4), 1);
        for (int i = 0; i < 4; i++) out[i] = ALLOC(0, 1);"""
    assert out(body, profile="7.3")[:4] == [page(4), page(2), page(6), 0]
    assert out(body, profile="6.12")[:4] == [page(2), page(4), page(6), 0]


def test_freed_neighbours_become_one_range(out):
    body = """
        ALLOC(0, 8); FREE(AT(2), 1); FREE(AT(4), 1); FREE(AT(3), 1);
        out[0] = ALLOC(0, 4); out[1] = ALLOC(0, 3);"""
    assert out(body)[:2] == [0, page(2)]


def test_free_ends_at_the_end_of_the_arena(out):
    body = """
        ALLOC(0, 8); FREE(AT(6), 99); FREE(AT(8), 1); FREE(BASE - 4096, 2);
        out[0] = ALLOC(AT(6), 2); out[1] = ALLOC(AT(0), 1);"""
    assert out(body)[:2] == [page(6), 0]


RESERVE = """
    out[0] = bpf_arena_reserve_pages(&arena, AT(2), 2);
    out[1] = bpf_arena_reserve_pages(&arena, AT(3), 1);
    out[2] = bpf_arena_reserve_pages(&arena, AT(7), 2);
    out[3] = bpf_arena_reserve_pages(&other, AT(7), 1);
    out[4] = ALLOC(AT(2), 1); out[5] = ALLOC(0, 4);"""


def test_reserved_pages_are_not_given_out(out):
    seen = [number & 0xFFFF_FFFF for number in out(RESERVE)]
    errors = [-code & 0xFFFF_FFFF for code in (16, 22, 22)]  # EBUSY, EINVAL
    assert seen == [0, *errors, 0, page(4) & 0xFFFF_FFFF]


def test_globals_are_at_the_start_and_take_a_page(out, machine):
    before = "__u32 __arena counter = 41; __u32 __arena zero; __u64 __arena *__arena link;"
    body = """
        counter++; out[0] = counter; out[1] = zero; out[2] = (__u64)&counter;
        link = AT(3); out[3] = (__u64)link; out[4] = ALLOC(AT(0), 1); out[5] = ALLOC(AT(1), 1);"""
    seen = out(body, before=before)
    assert seen[:2] == [42, 0]
    assert BASE <= seen[2] < page(1)
    assert seen[3:] == [page(3), 0, page(1)]


def test_null_stays_null_and_no_user_conv_leaves_32_bits(out):
    body = (
        "USE(); __u64 __arena *p = AT(2); __u64 v = (__u64)(__u64 *)p; "
        'asm volatile("" : "+r"(v)); out[0] = v; '
        'out[1] = (__u64)(void __arena *)(void *)v; v = 0; asm volatile("" : "+r"(v)); '
        "out[2] = (__u64)(void __arena *)(void *)v;"
    )
    assert out(body)[:3] == [page(2) & 0xFFFF_FFFF, page(2), 0]
    flags = "#define FLAGS (BPF_F_MMAPABLE | 1 << 18)"
    assert out(body, defines=flags)[:2] == [page(2) & 0xFFFF_FFFF] * 2


def test_throw_leaves_what_was_written(machine):
    before = """extern void bpf_throw(__u64) __attribute__((section(".ksyms")));
        static __attribute__((noinline)) void leave(__u32 __arena *p) { *p += 2; bpf_throw(*p); }"""
    used = machine("__u32 __arena *p = AT(1); if (!*p) ALLOC(p, 1); leave(p);", before=before)
    assert [used.run("t").value for _ in range(3)] == [2, 4, 6]


# ---- who may, and on which engine ----------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "source", "native"])
def test_other_engines_hand_it_to_the_reference(machine, engine):
    if engine == "native":
        pytest.importorskip("llvmlite")
    used = machine("out[0] = ALLOC(0, 1);", engine=engine)
    seen = used.run("t")
    assert (seen.verdict, seen.engine) == (Verdict.RAN, "reference")


def test_small_number_is_no_pointer_where_there_is_no_arena(machine):
    seen = machine("out[0] = *(volatile int *)8;").run("t")
    assert (seen.verdict, "not a pointer" in seen.message) == (Verdict.REJECTED, True)


def test_cast_needs_an_arena(machine):
    seen = machine("out[0] = *(volatile int __arena *)AT(1);").run("t")
    assert seen.verdict is Verdict.REJECTED
    assert "can only be used in a program that has an associated arena" in seen.message


@pytest.mark.parametrize(
    ("section", "profile", "verdict"),
    [
        ("tc", "6.12", Verdict.REJECTED),
        ("tc", "6.18", Verdict.REJECTED),
        ("tc", "7.3", Verdict.RAN),
    ],
)
def test_until_7_3_only_sleepable_programs_get_pages(machine, section, profile, verdict):
    used = machine("out[0] = ALLOC(0, 1);", section=section, profile=profile)
    seen = used.run("t", "eth ipv4 udp payload=18")
    assert seen.verdict is verdict
    if verdict is Verdict.REJECTED:
        assert "must be sleepable to call sleepable kfunc bpf_arena_alloc_pages" in seen.message


def test_reserve_came_after_6_12(machine):
    seen = machine(RESERVE, profile="6.12").run("t")
    assert (seen.verdict, "bpf_arena_reserve_pages" in seen.message) == (Verdict.UNSUPPORTED, True)


def test_fetch_from_a_missing_page_is_not_guessed(machine):
    body = "__u64 __arena *p = AT(1); USE(); out[0] = __sync_fetch_and_add(p, 1);"
    assert machine(body).run("t").verdict is Verdict.UNSUPPORTED


@pytest.mark.parametrize(
    ("defines", "words"),
    [
        ("#define FLAGS 0", "EINVAL"),
        ("#define BASE ((0x1ull << 44) + 8)", "EINVAL"),
        ("#define PAGES 0x100001", "E2BIG"),
        ("#define BASE 0x1fffff000ull", "ERANGE"),
    ],
)
def test_definition_that_no_kernel_takes(machine, defines, words):
    seen = machine("USE();", defines=defines).run("t")
    assert (seen.verdict, words in seen.message) == (Verdict.REJECTED, True)
