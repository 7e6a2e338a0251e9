# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fixtures of the simulator tests: C in, observation out."""

import pytest

from harness.bpf.elf import read_object
from harness.bpf.sections import attach_target, program_type
from harness.model import Case, Companion, Input
from harness.sim import run_case
from harness.sim.engines import source

FRAME = bytes(range(12)) + b"\x08\x00" + bytes(range(50))


@pytest.fixture
def case_of(compiled):
    """Make a case of C text: program "entry" unless told, all other options as Case has them."""

    def make(
        text, program="entry", *, packet=FRAME, ctx=None, hook="test_run", repeat=1, attach=()
    ):
        path = str(compiled(text))
        obj = read_object(path)
        section = obj.program(program).section
        sections = {name: obj.program(name).section for name in attach}
        companions = tuple(
            Companion(name, program_type(s), attach_target(s)) for name, s in sections.items()
        )
        given = Input(ctx=ctx) if ctx is not None else Input(packet=packet)
        return Case("t", path, program, section, hook, given, repeat, companions=companions)

    return make


@pytest.fixture
def run(case_of):
    """Compile C text and run it: the observation, with its trace."""

    def go(text, program="entry", *, profile="6.12", trace=True, budget=10_000_000, **options):
        case = case_of(text, program, **options)
        return run_case(case, profile, trace=trace, budget=budget)

    return go


# kernel functions, and things to hold
DECLARATIONS = """
#include <stdbool.h>
#include <linux/version.h>
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern void bpf_preempt_disable(void) __ksym;
extern void bpf_preempt_enable(void) __ksym;
extern void bpf_local_irq_save(unsigned long *) __ksym;
extern void bpf_local_irq_restore(unsigned long *) __ksym;
extern void *bpf_obj_new_impl(__u64, void *) __ksym;
extern void bpf_obj_drop_impl(void *, void *) __ksym;
extern void *bpf_refcount_acquire_impl(void *, void *) __ksym;
struct bpf_iter_num;
extern int bpf_iter_num_new(struct bpf_iter_num *, int, int) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *) __ksym;
struct bpf_iter_num { __u64 state; } __attribute__((aligned(8)));
#define new(type) ((type *)bpf_obj_new_impl(__builtin_btf_type_id(*(type *)0, 0), 0))
#define drop(object) bpf_obj_drop_impl(object, 0)
struct foo { long value; };
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
struct bpf_list_head { __u64 words[2]; } __attribute__((aligned(8)));
struct bpf_list_node { __u64 words[3]; } __attribute__((aligned(8)));
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
struct bpf_rb_root { __u64 words[2]; } __attribute__((aligned(8)));
struct bpf_rb_node { __u64 words[4]; } __attribute__((aligned(8)));
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
struct bpf_refcount { __u32 words[1]; } __attribute__((aligned(4)));
#endif
extern int bpf_list_push_front_impl(struct bpf_list_head *, struct bpf_list_node *, void *,
    __u64) __ksym;
extern int bpf_list_push_back_impl(struct bpf_list_head *, struct bpf_list_node *, void *,
    __u64) __ksym;
extern struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *) __ksym;
extern struct bpf_list_node *bpf_list_pop_back(struct bpf_list_head *) __ksym;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *, struct bpf_rb_node *,
    bool (*)(struct bpf_rb_node *, const struct bpf_rb_node *), void *, __u64) __ksym;
extern struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *) __ksym;
extern struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *, struct bpf_rb_node *) __ksym;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } rb SEC(".maps");
struct locked { struct bpf_spin_lock lock; long value; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
    __type(value, struct locked); } locks SEC(".maps");
#define LOCK int k = 0; struct locked *v = bpf_map_lookup_elem(&locks, &k); \\
    if (!v) return 0; bpf_spin_lock(&v->lock)
static __noinline __attribute__((unused)) int thrower(int x) { if (x) bpf_throw(x); return 0; }
__noinline int gthrower(int x) { if (x) bpf_throw(x); return 0; }
"""


@pytest.fixture
def declarations():
    """Kernel functions around exceptions, and maps with something to hold, in C."""
    return DECLARATIONS


@pytest.fixture
def holding(case_of, run):
    """Run a tc program with the kernel functions above; the fast engine must say the same."""

    def outcome(seen):
        return seen.verdict, seen.retvals, seen.message, seen.data_out, seen.maps, seen.leaks

    def go(body, before="", *, profile="6.12", trace=True, **options):
        text = f'{DECLARATIONS}{before}\nSEC("tc") int entry(struct __sk_buff *ctx) {{ {body} }}\n'
        seen = run(text, profile=profile, trace=trace, **options)
        again = run_case(case_of(text, **options), profile, engine=source.prepare)
        assert outcome(again) == outcome(seen)
        return seen

    return go
