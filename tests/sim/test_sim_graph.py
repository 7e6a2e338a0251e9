# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Allocated objects in lists and trees: who owns them, and what a drop takes along."""

import pytest

NODE = """
struct item { struct bpf_list_node node; struct bpf_rb_node leaf; struct bpf_refcount ref;
    long value; };
struct shelf { struct bpf_spin_lock lock; struct bpf_list_head head
    __attribute__((btf_decl_tag("contains:item:node"))); };
struct forest { struct bpf_spin_lock lock; struct bpf_rb_root root
    __attribute__((btf_decl_tag("contains:item:leaf"))); };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
    __type(value, struct shelf); } shelves SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
    __type(value, struct forest); } forests SEC(".maps");
#define item_of(pointer, member) \\
    ((struct item *)((char *)(pointer) - __builtin_offsetof(struct item, member)))
#define SHELF int k = 0; struct shelf *s = bpf_map_lookup_elem(&shelves, &k); if (!s) return 0
#define FOREST int k = 0; struct forest *t = bpf_map_lookup_elem(&forests, &k); if (!t) return 0
static __attribute__((unused)) bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
    { return item_of(a, leaf)->value < item_of(b, leaf)->value; }
static __noinline __attribute__((unused)) int push(struct shelf *s, long value, int back) {
    struct item *i = new(struct item);
    if (!i) return 1;
    i->value = value;
    bpf_spin_lock(&s->lock);
    int r = back ? bpf_list_push_back_impl(&s->head, &i->node, 0, 0)
                 : bpf_list_push_front_impl(&s->head, &i->node, 0, 0);
    bpf_spin_unlock(&s->lock);
    return r; }
static __noinline __attribute__((unused)) long pop(struct shelf *s, int back) {
    struct bpf_list_node *n;
    bpf_spin_lock(&s->lock);
    n = back ? bpf_list_pop_back(&s->head) : bpf_list_pop_front(&s->head);
    bpf_spin_unlock(&s->lock);
    if (!n) return -1;
    long value = item_of(n, node)->value;
    drop(item_of(n, node));
    return value; }
static __noinline __attribute__((unused)) int plant(struct forest *t, long value) {
    struct item *i = new(struct item);
    if (!i) return 1;
    i->value = value;
    bpf_spin_lock(&t->lock);
    int r = bpf_rbtree_add_impl(&t->root, &i->leaf, less, 0, 0);
    bpf_spin_unlock(&t->lock);
    return r; }
"""


@pytest.fixture
def graph(holding):
    """Run a tc program with lists and trees at hand."""
    return lambda body, **options: holding(body, NODE, **options)


@pytest.mark.parametrize(("back", "expected"), [(0, 321), (1, 123)])
def test_list_gives_back_in_order(graph, back, expected):
    push = "".join(f"push(s, {n}, {back});" for n in (1, 2, 3))
    body = f"SHELF; {push} long r = pop(s, 0) * 100; r += pop(s, 0) * 10; return r + pop(s, 0);"
    assert graph(body).retval == expected


def test_pop_from_the_back_and_from_an_empty_list(graph):
    body = (
        "SHELF; push(s, 1, 1); push(s, 2, 1); return pop(s, 1) * 100 + pop(s, 1) * 10 - pop(s, 1);"
    )
    assert graph(body).retval == 211


def test_lists_live_on_from_run_to_run(graph):
    assert graph("SHELF; push(s, 5, 0); return 0;", repeat=3).retvals == (0, 0, 0)
    seen = graph("SHELF; long v = pop(s, 0); push(s, v + 2, 0); return v;", repeat=3)
    assert seen.retvals == (0xFFFFFFFF, 1, 3)


def test_tree_is_in_order(graph):
    body = """FOREST; plant(t, 30); plant(t, 10); plant(t, 20);
    struct bpf_rb_node *n, *taken = 0;
    bpf_spin_lock(&t->lock);
    n = bpf_rbtree_first(&t->root);
    if (n) taken = bpf_rbtree_remove(&t->root, n);
    n = bpf_rbtree_first(&t->root);
    long second = n ? item_of(n, leaf)->value : 0;
    bpf_spin_unlock(&t->lock);
    if (!taken) return 1;
    long first = item_of(taken, leaf)->value;
    drop(item_of(taken, leaf));
    return first * 100 + second;"""
    assert graph(body).retval == 1020


def test_removing_what_is_not_in_the_tree(graph):
    body = """FOREST; struct item *i = new(struct item); if (!i) return 1;
    bpf_spin_lock(&t->lock);
    void *n = bpf_rbtree_remove(&t->root, &i->leaf);
    bpf_spin_unlock(&t->lock);
    drop(i);
    return n == 0;"""
    assert graph(body).retval == 1


def test_list_needs_its_own_lock(graph):
    body = "SHELF; FOREST2 bpf_spin_lock(&t->lock); bpf_list_pop_front(&s->head); return 0;"
    body = body.replace(
        "FOREST2", "struct forest *t = bpf_map_lookup_elem(&forests, &k); if (!t) return 0;"
    )
    assert "bpf_spin_lock must be held for bpf_list_head" in graph(body).message


def test_object_that_a_list_holds_cannot_be_dropped(graph):
    body = """SHELF; struct item *i = new(struct item); if (!i) return 1;
    bpf_spin_lock(&s->lock); bpf_list_push_front_impl(&s->head, &i->node, 0, 0);
    bpf_spin_unlock(&s->lock);
    drop(i); return 0;"""
    assert "no such object is held" in graph(body).message


REFERENCE = "struct item *j = bpf_refcount_acquire_impl(i, 0); if (!j) { drop(i); return 1; }"


def test_second_reference_keeps_the_object(graph):
    body = f"struct item *i = new(struct item); if (!i) return 1; {REFERENCE}"
    body += " j->value = 4; drop(i); long v = j->value; drop(j); return v;"
    assert graph(body).retval == 4


def test_second_reference_must_be_dropped_too(graph):
    body = f"struct item *i = new(struct item); if (!i) return 1; {REFERENCE} drop(i); return 0;"
    assert "object struct item acquired" in graph(body).message


def test_node_that_is_in_a_list_is_refused_and_its_reference_dropped(graph):
    body = f"""SHELF; struct item *i = new(struct item); if (!i) return 1; {REFERENCE}
    bpf_spin_lock(&s->lock);
    bpf_list_push_front_impl(&s->head, &i->node, 0, 0);
    int again = bpf_list_push_back_impl(&s->head, &j->node, 0, 0);
    bpf_spin_unlock(&s->lock);
    return again == -22;"""
    assert graph(body).retval == 1


def test_object_without_count_cannot_be_shared(graph):
    body = "struct foo *f = new(struct foo); if (!f) return 1; bpf_refcount_acquire_impl(f, 0);"
    assert "has no bpf_refcount" in graph(body + " drop(f); return 0;").message


def test_throw_with_a_full_list_leaves_it_full(graph):
    body = """SHELF; long v = pop(s, 0); push(s, v + 10, 0); bpf_throw(v); return 0;"""
    assert graph(body, repeat=3).retvals == (0xFFFFFFFF, 9, 19)


def test_throw_from_less_is_a_fault(holding):
    node = NODE.replace("{ return item_of(a", "{ bpf_throw(1); return item_of(a")
    body = "FOREST; plant(t, 1); return plant(t, 2);"
    seen = holding(body, node)
    assert "bpf_throw called from callback less" in seen.message


def test_bits_iterator(holding):
    before = """struct bpf_iter_bits { __u64 words[2]; } __attribute__((aligned(8)));
    extern int bpf_iter_bits_new(struct bpf_iter_bits *, const __u64 *, __u32) __ksym;
    extern int *bpf_iter_bits_next(struct bpf_iter_bits *) __ksym;
    extern void bpf_iter_bits_destroy(struct bpf_iter_bits *) __ksym;"""
    body = """__u64 words[2] = { 0x8000000000000005ULL, 2 }; struct bpf_iter_bits it; int *bit;
    long sum = 0; int n = 0;
    bpf_iter_bits_new(&it, words, 2);
    while ((bit = bpf_iter_bits_next(&it))) { sum += *bit; n++; }
    bpf_iter_bits_destroy(&it);
    return sum * 10 + n;"""
    assert holding(body, before).retval == (0 + 2 + 63 + 65) * 10 + 4


@pytest.mark.parametrize(("profile", "verdict"), [("6.12", "unsupported"), ("7.3", "ran")])
def test_short_names_are_those_of_7_3(holding, profile, verdict):
    before = "extern void bpf_obj_drop(void *) __ksym;"
    body = "struct foo *f = new(struct foo); if (!f) return 1; bpf_obj_drop(f); return 5;"
    assert holding(body, before, profile=profile).verdict == verdict


RES = """struct bpf_res_spin_lock { __u32 words[1]; } __attribute__((aligned(4)));
extern int bpf_res_spin_lock(struct bpf_res_spin_lock *) __ksym;
extern void bpf_res_spin_unlock(struct bpf_res_spin_lock *) __ksym;
extern int bpf_res_spin_lock_irqsave(struct bpf_res_spin_lock *, unsigned long *) __ksym;
extern void bpf_res_spin_unlock_irqrestore(struct bpf_res_spin_lock *, unsigned long *) __ksym;
struct bpf_res_spin_lock a SEC(".data.A"), b SEC(".data.B");
"""


def test_resilient_locks(holding):
    body = """if (bpf_res_spin_lock(&a)) return 1; if (bpf_res_spin_lock(&b)) return 2;
    int twice = bpf_res_spin_lock(&b); {first} {second} return twice == -35 ? 7 : 3;"""
    a, b = "bpf_res_spin_unlock(&a);", "bpf_res_spin_unlock(&b);"
    good = body.replace("{first}", b).replace("{second}", a)
    bad = body.replace("{first}", a).replace("{second}", b)
    assert holding(good, RES, profile="6.18").retval == 7
    assert "out of order" in holding(bad, RES, profile="6.18").message
    assert "unsupported: kfunc bpf_res_spin_lock" in holding(good, RES, profile="6.12").message


def test_resilient_lock_that_saves_interrupts_needs_its_own_unlock(holding):
    take = "unsigned long s; if (bpf_res_spin_lock_irqsave(&a, &s)) return 1; "
    give = "bpf_res_spin_unlock_irqrestore(&a, &s); "
    assert holding(take + give + "return 7;", RES, profile="6.18").retval == 7
    wrong = holding(take + "bpf_res_spin_unlock(&a); return 7;", RES, profile="6.18")
    assert "bpf_res_spin_unlock: no such resilient spin lock is held" in wrong.message
    thrown = holding(f"{take} bpf_throw(9); {give} return 7;", RES, profile="cleanup")
    assert thrown.retval == 9
    assert "~ bpf_res_spin_unlock_irqrestore releases resilient spin lock" in thrown.trace


@pytest.mark.parametrize("type_id", ["0", "1", "0xFFFFFF", "-1"])
def test_type_that_is_no_struct_of_the_object(holding, type_id):
    seen = holding(f"void *f = bpf_obj_new_impl({type_id}, 0); return !f;")
    assert "type ID argument must be of a struct" in seen.message


@pytest.mark.parametrize("words", ["2, -9", "128, 70", "64, -2"])
def test_iterator_that_was_written_over(holding, words):
    size, bit = words.split(", ")
    before = """struct bpf_iter_bits { int words[4]; } __attribute__((aligned(8)));
    extern int bpf_iter_bits_new(struct bpf_iter_bits *, const __u64 *, __u32) __ksym;
    extern int *bpf_iter_bits_next(struct bpf_iter_bits *) __ksym;
    extern void bpf_iter_bits_destroy(struct bpf_iter_bits *) __ksym;"""
    body = f"""struct bpf_iter_bits it; bpf_iter_bits_new(&it, 0, 1);
    it.words[2] = {size}; it.words[3] = {bit};
    int *found = bpf_iter_bits_next(&it); bpf_iter_bits_destroy(&it); return !!found;"""
    assert "wrote over its bpf_iter_bits" in holding(body, before).message


def test_less_that_takes_nodes_out_of_its_tree(holding):
    """No verifier accepts it; the simulator must not mind."""
    node = NODE.replace(
        "{ return item_of(a",
        "{ int k = 0; struct forest *t = bpf_map_lookup_elem(&forests, &k);"
        " if (t) bpf_rbtree_remove(&t->root, (void *)b); return item_of(a",
    )
    seen = holding("FOREST; plant(t, 1); plant(t, 2); return plant(t, 3);", node)
    assert seen.verdict == "rejected"
