# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What frames hold: leaks at exit and throw, as each kernel's verifier sees them."""

import pytest

OBJECT = "struct foo *f = new(struct foo); if (!f) return 0;"
RECORD = "long *f = bpf_ringbuf_reserve(&rb, 8, 0); if (!f) return 0;"
ITERATOR = "struct bpf_iter_num it; bpf_iter_num_new(&it, 0, 3);"


@pytest.mark.parametrize(
    ("taken", "given", "name"),
    [
        (OBJECT, "drop(f);", "object struct foo"),
        (RECORD, "bpf_ringbuf_submit(f, 0);", "ring buffer record of rb"),
        (RECORD, "bpf_ringbuf_discard(f, 0);", "ring buffer record of rb"),
        (ITERATOR, "bpf_iter_num_destroy(&it);", "iterator num"),
        ("bpf_rcu_read_lock();", "bpf_rcu_read_unlock();", "RCU read section"),
        ("bpf_preempt_disable();", "bpf_preempt_enable();", "preemption-off section"),
        (
            "unsigned long s; bpf_local_irq_save(&s);",
            "bpf_local_irq_restore(&s);",
            "interrupts-off section",
        ),
        ("{ LOCK; }", "{ int k = 0; struct locked *v = bpf_map_lookup_elem(&locks, &k);"
         " if (v) bpf_spin_unlock(&v->lock); }", "spin lock"),
    ],
)  # fmt: skip
class TestBalance:
    def test_given_back_is_fine(self, holding, taken, given, name):
        assert holding(f"{taken} {given} return 7;", profile="7.3").retval == 7

    def test_kept_at_exit_is_a_fault_that_names_both_places(self, holding, taken, given, name):
        seen = holding(f"{taken}\nif (ctx->len > 9999) {{ {given} }}\nreturn 7;", profile="7.3")
        assert seen.verdict == "rejected"
        assert f"{name} acquired at t" in seen.message
        assert "is still held when entry returns (t" in seen.message

    def test_kept_at_throw_is_a_fault_that_names_both_places(self, holding, taken, given, name):
        seen = holding(f"{taken}\nbpf_throw(ctx->len);\n{given} return 7;", profile="7.3")
        assert seen.verdict == "rejected"
        assert f"bpf_throw while {name} acquired at t" in seen.message
        assert "bpf_throw(ctx->len)" in seen.message

    def test_given_back_twice_is_a_fault(self, holding, taken, given, name):
        assert holding(f"{taken} {given} {given} return 7;", profile="7.3").verdict == "rejected"

    def test_given_back_before_the_throw_is_fine(self, holding, taken, given, name):
        body = f"{taken} {given} bpf_throw(9); return 7;"
        assert holding(body, profile="7.3").retval == 9


@pytest.mark.parametrize("use", ["f->value = 1;", "drop(f);", "return f->value;"])
def test_use_after_drop_is_a_fault(holding, use):
    hidden = 'struct foo *g = f; asm volatile("" : "+r"(g)); drop(g);'
    seen = holding(f"{OBJECT} {hidden} {use} return 0;")
    assert seen.verdict == "rejected"
    assert "is gone" in seen.message or "no object" in seen.message


def test_record_of_a_ring_buffer_is_gone_after_submit(holding):
    seen = holding(f"{RECORD} bpf_ringbuf_submit(f, 0); *f = 1; return 0;")
    assert "is gone" in seen.message


def test_fresh_object_has_no_content(holding):
    seen = holding(f"{OBJECT} long v = f->value; drop(f); return v;")
    assert seen.verdict == "unsupported"
    assert "never written" in seen.message


THROW_BELOW = "bpf_rcu_read_lock(); {call}; bpf_rcu_read_unlock(); return 7;"


@pytest.mark.parametrize(
    ("held", "call", "profile", "verdict"),
    [
        # reference/exceptions.md, the table of what is held at a throw
        ("rcu", "bpf_throw(9)", "6.12", "rejected"),
        ("rcu", "thrower(9)", "6.12", "ran"),
        ("rcu", "thrower(9)", "6.18", "ran"),
        ("rcu", "thrower(9)", "7.3", "rejected"),
        ("rcu", "gthrower(9)", "6.12", "ran"),
        ("rcu", "gthrower(9)", "7.3", "rejected"),
        ("preempt", "bpf_throw(9)", "6.18", "rejected"),
        ("preempt", "thrower(9)", "6.12", "ran"),
        ("preempt", "gthrower(9)", "6.12", "rejected"),
        ("preempt", "gthrower(9)", "6.18", "ran"),
        ("preempt", "gthrower(9)", "7.3", "rejected"),
        ("irq", "thrower(9)", "6.18", "ran"),
        ("irq", "thrower(9)", "7.3", "rejected"),
        ("object", "thrower(9)", "6.12", "rejected"),
        ("object", "gthrower(9)", "6.12", "ran"),
        ("object", "gthrower(9)", "6.18", "ran"),
        ("object", "gthrower(9)", "7.3", "rejected"),
        ("lock", "thrower(9)", "6.12", "rejected"),
        ("lock", "gthrower(9)", "6.12", "rejected"),
    ],
)
def test_what_each_kernel_lets_leak(holding, held, call, profile, verdict):
    taken, given = {
        "rcu": ("bpf_rcu_read_lock();", "bpf_rcu_read_unlock();"),
        "preempt": ("bpf_preempt_disable();", "bpf_preempt_enable();"),
        "irq": ("unsigned long s; bpf_local_irq_save(&s);", "bpf_local_irq_restore(&s);"),
        "object": (OBJECT, "drop(f);"),
        "lock": ("LOCK;", "bpf_spin_unlock(&v->lock);"),
    }[held]
    seen = holding(f"{taken} {call}; {given} return 7;", profile=profile)
    assert seen.verdict == verdict
    if verdict == "ran":
        assert seen.retval == 9
        assert len(seen.leaks) == 1
        assert "acquired at t" in seen.leaks[0]
        assert f"leaked: {seen.leaks[0]}" in seen.trace
    else:
        assert seen.leaks == ()


def test_section_that_a_static_function_opens_is_its_callers(holding):
    before = "static __noinline void open(void) { bpf_rcu_read_lock(); }"
    assert holding("open(); bpf_rcu_read_unlock(); return 7;", before).retval == 7
    assert "still held when entry returns" in holding("open(); return 7;", before).message


def test_global_function_must_give_back_what_it_took(holding):
    before = "__noinline int open(int x) { bpf_rcu_read_lock(); return x; }"
    seen = holding("open(1); bpf_rcu_read_unlock(); return 7;", before)
    assert "still held when open returns" in seen.message


def test_global_function_cannot_close_its_callers_section(holding):
    before = "__noinline int close(int x) { bpf_rcu_read_unlock(); return x; }"
    seen = holding("bpf_rcu_read_lock(); close(1); return 7;", before)
    assert "unmatched rcu read unlock" in seen.message


def test_callback_must_give_back_what_it_took(holding):
    before = "static long each(__u32 i, void *c) { bpf_rcu_read_lock(); return 0; }"
    seen = holding("bpf_loop(1, each, 0, 0); bpf_rcu_read_unlock(); return 7;", before)
    assert "still held when each returns" in seen.message


def test_exception_callback_must_give_back_what_it_took(run, declarations):
    text = declarations + (
        "__noinline int cb(__u64 cookie) { bpf_rcu_read_lock(); return 1; }\n"
        '__exception_cb(cb) SEC("tc") int entry(struct __sk_buff *c) { bpf_throw(1); return 0; }'
    )
    assert "still held when cb returns" in run(text).message


def test_exception_callback_may_take_and_give_back(run, declarations):
    text = declarations + (
        "__noinline int cb(__u64 cookie) { bpf_rcu_read_lock(); bpf_rcu_read_unlock();"
        " struct foo *f = new(struct foo); if (f) drop(f); return cookie + 1; }\n"
        '__exception_cb(cb) SEC("tc") int entry(struct __sk_buff *c) { bpf_throw(1); return 0; }'
    )
    assert run(text).retval == 2


def test_rcu_sections_nest_only_where_the_kernel_counts_them(holding):
    body = (
        "bpf_rcu_read_lock(); bpf_rcu_read_lock(); bpf_rcu_read_unlock();"
        " bpf_rcu_read_unlock(); return 7;"
    )
    assert "nested rcu read lock" in holding(body, profile="6.18").message
    assert holding(body, profile="7.3").retval == 7


def test_interrupts_are_restored_in_order(holding):
    body = (
        "unsigned long a, b; bpf_local_irq_save(&a); bpf_local_irq_save(&b);"
        " bpf_local_irq_restore(&a); bpf_local_irq_restore(&b); return 7;"
    )
    assert "out of order" in holding(body, profile="7.3").message


@pytest.mark.parametrize("kfunc", ["bpf_iter_num_next(&it)", "bpf_iter_num_destroy(&it)"])
def test_iterator_that_was_not_made(holding, kfunc):
    seen = holding(f"struct bpf_iter_num it = {{}}; {kfunc}; return 0;")
    assert "expected an initialized iter_num" in seen.message


def test_tail_call_with_something_held(holding):
    before = """int b(struct __sk_buff *);
    struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1);
        __uint(key_size, 4); __array(values, int (struct __sk_buff *)); }
        jump SEC(".maps") = { .values = { [0] = (void *)&b } };
    SEC("tc") int b(struct __sk_buff *ctx) { return 3; }
    static __noinline __attribute__((unused)) int sub(struct __sk_buff *ctx) {
        int r = 1; bpf_tail_call(ctx, &jump, 0); asm volatile("" : "+r"(r)); return r; }"""
    held = "bpf_rcu_read_lock(); bpf_tail_call(ctx, &jump, 0); bpf_rcu_read_unlock(); return 7;"
    assert "tail_call would lead to reference leak" in holding(held, before).message
    referenced = f"{OBJECT} int r = sub(ctx); drop(f); return r;"
    assert holding(referenced, before).retval == 3


def test_second_lock_while_one_is_held(holding):
    assert "a lock is held already" in holding("LOCK; bpf_spin_lock(&v->lock); return 0;").message


def test_holding_without_end_is_unsupported(holding):
    body = "for (int i = 0; i < 20000; i++) { struct foo *f = new(struct foo); if (!f) break; }"
    seen = holding(body + " return 0;", trace=False)
    assert seen.verdict == "unsupported"
    assert "more than 10000 resources held" in seen.message
