# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Profile cleanup: a throw releases what each frame holds. One test per rule of semantics.md."""

import pytest

OBJECT = "struct foo *f = new(struct foo); if (!f) return 0;"
RECORD = "long *g = bpf_ringbuf_reserve(&rb, 8, 0); if (!g) return 0;"
ITERATOR = "struct bpf_iter_num it; bpf_iter_num_new(&it, 0, 3);"


@pytest.fixture
def unwinding(holding):
    """Run a tc program in profile cleanup; the lines of its trace that tell of the unwinding."""

    def go(body, before="", **options):
        seen = holding(body, before, profile="cleanup", **options)
        marked = [line.strip() for line in seen.trace.splitlines()]
        return seen, [line for line in marked if line[:2] in ("~ ", "x ", "! ")]

    return go


def releases(lines):
    """Names of what was released, in order."""
    told = (line[2:].partition(" acquired at")[0] for line in lines if line.startswith("~ "))
    return [line.partition(" ")[2] for line in told]


@pytest.mark.parametrize(
    ("taken", "given", "what", "function"),
    [
        (OBJECT, "drop(f);", "object struct foo", "bpf_obj_drop"),
        (RECORD, "bpf_ringbuf_submit(g, 0);", "ring buffer record of rb", "bpf_ringbuf_discard"),
        (ITERATOR, "bpf_iter_num_destroy(&it);", "iterator num", "bpf_iter_num_destroy"),
        ("bpf_rcu_read_lock();", "bpf_rcu_read_unlock();", "RCU read section",
         "bpf_rcu_read_unlock"),
        ("bpf_preempt_disable();", "bpf_preempt_enable();", "preemption-off section",
         "bpf_preempt_enable"),
        ("unsigned long s; bpf_local_irq_save(&s);", "bpf_local_irq_restore(&s);",
         "interrupts-off section", "bpf_local_irq_restore"),
        ("LOCK;", "bpf_spin_unlock(&v->lock);", "spin lock", "bpf_spin_unlock"),
    ],
)  # fmt: skip
def test_each_kind_has_its_release_function(unwinding, taken, given, what, function):
    seen, lines = unwinding(f"{taken}\nbpf_throw(9);\n{given} return 7;")
    assert seen.retval == 9
    assert seen.leaks == ()
    assert releases(lines) == [f"releases {what}"]
    assert lines[1].startswith(f"~ {function} releases {what} acquired at t")


def test_nothing_is_released_where_nothing_is_thrown(unwinding):
    seen, lines = unwinding(f"{OBJECT} thrower(0); drop(f); return 7;")
    assert (seen.retval, lines) == (7, [])


def test_within_a_frame_the_newest_goes_first(unwinding):
    body = (
        f"{OBJECT} {RECORD} bpf_rcu_read_lock(); {ITERATOR} bpf_throw(9);"
        " bpf_iter_num_destroy(&it); bpf_rcu_read_unlock(); bpf_ringbuf_submit(g, 0); drop(f);"
        " return 0;"
    )
    assert releases(unwinding(body)[1]) == [
        "releases iterator num",
        "releases RCU read section",
        "releases ring buffer record of rb",
        "releases object struct foo",
    ]


INNER = (
    "static __noinline int inner(int x) { struct foo *f = new(struct foo); if (!f) return 0;"
    " thrower(x); drop(f); return x; }\n"
    f"__noinline int outer(int x) {{ {RECORD} int r = inner(x); bpf_ringbuf_submit(g, 0);"
    " return r + 1; }\n"
)


def test_frames_release_from_the_inside_out(unwinding):
    """A frame goes away right after its own releases, before its caller's."""
    body = f"{ITERATOR} int r = outer(9); bpf_iter_num_destroy(&it); return r;"
    seen, lines = unwinding(body, INNER)
    assert seen.retval == 9
    told = [line.partition(" acquired")[0].partition(":")[0] for line in lines[1:]]
    assert lines[0].startswith("! bpf_throw(cookie=9)")
    assert told == [
        "x frame of thrower vanishes",
        "~ bpf_obj_drop releases object struct foo",
        "x frame of inner vanishes",
        "~ bpf_ringbuf_discard releases ring buffer record of rb",
        "x frame of outer vanishes",
        "~ bpf_iter_num_destroy releases iterator num",
        "x frame of entry vanishes",
    ]


def test_argument_is_released_by_the_innermost_frame_that_still_has_it(unwinding):
    before = (
        "static __noinline int keeps(struct foo *f, int x) { thrower(x); drop(f); return 0; }\n"
    )
    seen, lines = unwinding(f"{OBJECT} return keeps(f, 9);", before)
    assert seen.retval == 9
    order = [line for line in lines if "keeps" in line or line.startswith("~")]
    assert order[0].startswith("~ bpf_obj_drop releases object struct foo")
    assert order[1].startswith("x frame of keeps")


def test_argument_that_the_callee_forgot_is_released_by_its_caller(unwinding):
    before = (
        "static __noinline int forgets(struct foo *f, int x)"
        " { f->value = x; thrower(x); return 0; }\n"
    )
    seen, lines = unwinding(f"{OBJECT} int r = forgets(f, 9); drop(f); return r;", before)
    assert seen.retval == 9
    order = [line for line in lines if "forgets" in line or line.startswith("~")]
    assert order[0].startswith("x frame of forgets")
    assert order[1].startswith("~ bpf_obj_drop releases object struct foo")


def test_returned_object_belongs_to_who_got_it(unwinding):
    before = "static __noinline struct foo *make(void) { return new(struct foo); }\n"
    seen, lines = unwinding(
        "struct foo *f = make(); if (!f) return 0; bpf_throw(9); drop(f); return 0;", before
    )
    assert seen.retval == 9
    assert releases(lines) == ["releases object struct foo"]


def test_iterator_belongs_to_the_frame_whose_stack_it_is_in(unwinding):
    before = (
        "static __noinline int start(struct bpf_iter_num *it) "
        "{ bpf_iter_num_new(it, 0, 2); thrower(9); return 0; }\n"
    )
    body = "struct bpf_iter_num it; int r = start(&it); bpf_iter_num_destroy(&it); return r;"
    _, lines = unwinding(body, before)
    order = [line for line in lines if "start" in line or line.startswith("~")]
    assert order[0].startswith("x frame of start")
    assert order[1].startswith("~ bpf_iter_num_destroy releases iterator num")


def test_section_belongs_to_who_opened_it_and_then_to_its_caller(unwinding):
    before = (
        "static __noinline void opens(void) { bpf_rcu_read_lock(); }\n"
        "static __noinline int middle(int x) { opens(); thrower(x); bpf_rcu_read_unlock();"
        " return 0; }\n"
    )
    _, lines = unwinding("return middle(9);", before)
    order = [line for line in lines if "middle" in line or line.startswith("~")]
    assert order[0].startswith("~ bpf_rcu_read_unlock releases RCU read section")
    assert order[1].startswith("x frame of middle")


def test_stack_slot_holds_too(unwinding):
    body = f"{OBJECT} struct foo *volatile slot = f; f = 0; thrower(9); drop(slot); return 0;"
    seen, lines = unwinding(body)
    assert seen.retval == 9
    assert releases(lines) == ["releases object struct foo"]


def test_null_in_the_slot_releases_nothing(unwinding):
    body = (
        "struct foo *f = 0; if (ctx->len > 9999) f = new(struct foo);"
        " thrower(9); if (f) drop(f); return 0;"
    )
    seen, lines = unwinding(body)
    assert (seen.retval, releases(lines)) == (9, [])


def test_pointer_that_no_frame_has_any_more_is_refused(unwinding):
    """The proposal's verifier says "Unreleased reference": no table could name it."""
    seen, _ = unwinding(f"{OBJECT} bpf_throw(9); return 0;")
    assert seen.verdict == "rejected"
    assert "Unreleased reference: object struct foo" in seen.message
    assert "no cleanup table can name it" in seen.message


def test_object_takes_along_what_it_holds(unwinding):
    before = """struct leaf { struct bpf_list_node node; long value; };
    struct box { struct bpf_spin_lock lock; struct bpf_list_head head
        __attribute__((btf_decl_tag("contains:leaf:node"))); };"""
    body = """struct box *b = new(struct box); if (!b) return 0;
    struct leaf *l = new(struct leaf); if (!l) { drop(b); return 0; }
    bpf_spin_lock(&b->lock); bpf_list_push_front_impl(&b->head, &l->node, 0, 0);
    bpf_spin_unlock(&b->lock); bpf_throw(9); drop(b); return 0;"""
    seen, lines = unwinding(body, before)
    assert (seen.retval, releases(lines)) == (9, ["releases object struct box"])


def test_discarded_record_never_reaches_the_consumer_and_its_room_stays_taken(unwinding):
    body = f"{RECORD} *g = 1; bpf_throw(9); bpf_ringbuf_submit(g, 0); return 0;"
    seen, lines = unwinding(body, repeat=3)
    assert seen.retvals == (9, 9, 9)
    assert len(releases(lines)) == 3


CALLBACK = (
    "__noinline int cb(__u64 cookie) { {body} }\n"
    '__exception_cb(cb) SEC("tc") int entry(struct __sk_buff *ctx)'
    " { LOCK; bpf_throw(9); bpf_spin_unlock(&v->lock); return 0; }\n"
)


def test_callback_runs_after_all_releases(run, declarations):
    """It can take the lock that the program held."""
    body = "LOCK; bpf_spin_unlock(&v->lock); return cookie + 1;"
    seen = run(declarations + CALLBACK.replace("{body}", body), profile="cleanup")
    assert seen.retval == 10
    lines = [line.strip() for line in seen.trace.splitlines()]
    release = next(
        i for i, line in enumerate(lines) if line.startswith("~ bpf_spin_unlock releases spin lock")
    )
    entered = next(i for i, line in enumerate(lines) if line.startswith("> cb("))
    assert release < entered


def test_callback_must_not_leak_either(run, declarations):
    text = declarations + CALLBACK.replace("{body}", "bpf_rcu_read_lock(); return 1;")
    assert "still held when cb returns" in run(text, profile="cleanup").message


def test_callback_frames_are_never_on_the_way(unwinding):
    """As the proposal leaves it: no throw from a helper's callback, whatever is held."""
    before = "static long each(__u32 i, void *c) { bpf_throw(1); return 0; }\n"
    seen, _ = unwinding(f"{OBJECT} bpf_loop(2, each, 0, 0); drop(f); return 0;", before)
    assert "bpf_throw called from callback each" in seen.message


def test_exit_with_something_held_is_still_refused(unwinding):
    seen, _ = unwinding("bpf_rcu_read_lock(); return 0;")
    assert "still held when entry returns" in seen.message


TAIL = """int b(struct __sk_buff *);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4);
    __array(values, int (struct __sk_buff *)); } jump SEC(".maps") = {
    .values = { [0] = (void *)&b } };
SEC("tc") int b(struct __sk_buff *ctx) {
    struct foo *f = new(struct foo); if (!f) return 0; bpf_throw(3); drop(f); return 0; }
static __noinline int sub(struct __sk_buff *ctx) {
    int r = 1; bpf_tail_call(ctx, &jump, 0); asm volatile("" : "+r"(r)); return r; }
"""


def test_tail_called_program_releases_its_own_and_its_callers_keep_theirs(unwinding):
    body = f"{RECORD} int r = sub(ctx); bpf_ringbuf_discard(g, 0); return r + 1;"
    seen, lines = unwinding(body, TAIL)
    assert seen.retval == 4
    assert releases(lines) == ["releases object struct foo"]


EXTENSION = """__noinline int step(int x) { asm volatile("" : "+r"(x)); return x + 1; }
SEC("?freplace/step") int ext(int x) {
    struct foo *f = new(struct foo); if (!f) return 0; bpf_throw(30); drop(f); return 0; }
"""


def test_extension_releases_its_own_and_the_target_keeps_its(unwinding):
    body = f"{RECORD} int r = step(1); bpf_ringbuf_discard(g, 0); return r + 1;"
    seen, lines = unwinding(body, EXTENSION, attach=["ext"])
    assert seen.retval == 31
    assert releases(lines) == ["releases object struct foo"]


def test_tracing_program_releases_its_own(unwinding):
    before = """SEC("?fentry/entry") int watch(unsigned long long *c) {
    bpf_rcu_read_lock(); bpf_throw(0); bpf_rcu_read_unlock(); return 0; }"""
    body = "bpf_preempt_disable(); bpf_throw(9); bpf_preempt_enable(); return 0;"
    seen, lines = unwinding(body, before, attach=["watch"])
    assert seen.retval == 9
    assert releases(lines) == ["releases RCU read section", "releases preemption-off section"]


def test_next_run_starts_with_nothing_held(unwinding):
    seen, lines = unwinding("LOCK; bpf_throw(9); bpf_spin_unlock(&v->lock); return 0;", repeat=2)
    assert seen.retvals == (9, 9)
    assert releases(lines) == ["releases spin lock"] * 2


def test_trace_says_where_each_release_was_acquired(unwinding):
    _, lines = unwinding(f"{OBJECT}\n{RECORD}\nbpf_throw(9); drop(f); return *g;")
    acquired = [line.rpartition(":")[2] for line in lines if line.startswith("~")]
    thrown = int(lines[0].rpartition(":")[2])
    assert [int(number) for number in acquired] == [thrown - 1, thrown - 2]
    assert all(len(line) <= 100 for line in lines)


def test_all_elements_of_an_array_of_pointers_are_released(unwinding):
    body = """struct foo *f[20] = {};
    for (int i = 0; i < 20; i++) { f[i] = new(struct foo); if (!f[i]) goto end; }
    thrower(9);
    end: for (int i = 0; i < 20; i++) if (f[i]) drop(f[i]);
    return 0;"""
    seen, lines = unwinding(body)
    assert (seen.retval, releases(lines)) == (9, ["releases object struct foo"] * 20)


def test_all_four_callee_saved_registers_are_looked_into(unwinding):
    take = "r1 = %[rb] ll; r2 = 8; r3 = 0; call 131;"
    text = " ".join(f"{take} r{register} = r0;" for register in (6, 7, 8, 9))
    body = (
        f'asm volatile("{text} r1 = 9; call %[thrower];" :: [rb] "i"(&rb), '
        '[thrower] "i"(thrower) : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9",'
        ' "memory"); return thrower(1);'
    )
    seen, lines = unwinding(body)
    assert (seen.retval, releases(lines)) == (9, ["releases ring buffer record of rb"] * 4)


def test_dynptr_is_discarded(unwinding):
    body = """struct bpf_dynptr d; bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &d); thrower(9);
    bpf_ringbuf_discard_dynptr(&d, 0); return 0;"""
    seen, lines = unwinding(body)
    assert (seen.retval, releases(lines)) == (9, ["releases ring buffer dynptr of rb"])
