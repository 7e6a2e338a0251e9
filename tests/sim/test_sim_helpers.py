# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers beyond what probes compare with kernels: pointers that end, records, inputs, doubts."""

from pathlib import Path

import pytest

from harness.bpf.elf import read_object
from harness.bpf.helper_names import NAMES
from harness.model import Input
from harness.sim import context, helpertable, semantics
from harness.sim.helpers import HELPERS
from harness.sim.machine import Machine
from harness.sim.trace import Trace
from harness.sim.world import Process, World

FRAME = bytes(range(12)) + b"\x08\x00" + bytes(range(50))


def program(body, before="", section="tc", ctx="struct __sk_buff"):
    return f'{before}\nSEC("{section}") int entry({ctx} *ctx) {{ {body} }}\n'


@pytest.fixture
def machine_of(compiled):
    """A machine for C text, in a world."""

    def make(text, world=None, profile="6.12", kind="tc"):
        obj = read_object(str(compiled(text)))
        machine = Machine(obj, semantics.profile(profile), Trace(), world=world or World())
        machine.program_type = kind
        return machine

    return make


def go(machine, hook="test_run", packet=FRAME):
    given = context.build(
        machine.program_type, hook, Input(packet=packet), machine.memory, machine.profile
    )
    return machine.run("entry", given) & 0xFFFFFFFF, given


MOVERS = [
    ("tc", "bpf_skb_pull_data(ctx, 0)"),
    ("tc", "bpf_skb_change_tail(ctx, 60, 0)"),
    ("tc", "bpf_skb_change_head(ctx, 8, 0)"),
    ("tc", "bpf_skb_vlan_push(ctx, 0, 5)"),
    ("tc", "bpf_skb_vlan_pop(ctx)"),
    ("tc", "bpf_skb_adjust_room(ctx, 8, 1, 0)"),
    ("tc", "bpf_skb_change_proto(ctx, 0, 1)"),
    ("tc", "bpf_skb_store_bytes(ctx, 0, &b, 1, 8)"),
    ("tc", "bpf_l3_csum_replace(ctx, 24, 0, 0, 2)"),
    ("tc", "bpf_l4_csum_replace(ctx, 24, 0, 0, 2)"),
    ("tc", "bpf_clone_redirect(ctx, 1, 2)"),
    ("xdp", "bpf_xdp_adjust_head(ctx, 1000)"),
    ("xdp", "bpf_xdp_adjust_tail(ctx, -4)"),
    ("xdp", "bpf_xdp_adjust_meta(ctx, -4)"),
]


@pytest.mark.parametrize(("kind", "call"), MOVERS)
def test_a_packet_pointer_ends_when_the_packet_may_move(run, kind, call):
    ctx = "struct xdp_md" if kind == "xdp" else "struct __sk_buff"
    body = f"""char b = 1; (void)b; char *data = (char *)(long)ctx->data;
    if (data + 4 > (char *)(long)ctx->data_end) return 9;
    {call}; asm volatile("" : "+r"(data)); return *data;"""
    seen = run(program(body, section=kind, ctx=ctx))
    assert "the pointer is of packet before " in seen.message
    assert "load it again" in seen.message
    assert ".bpf.c:" in seen.message
    reload = body.replace("asm volatile", "data = (char *)(long)ctx->data; asm volatile")
    assert run(program(reload, section=kind, ctx=ctx)).verdict == "ran"


def test_what_leaves_is_recorded(machine_of):
    text = program("bpf_redirect_peer(7, 0); bpf_clone_redirect(ctx, 3, 1); "
                   "return bpf_redirect(5, 1);")  # fmt: skip
    machine = machine_of(text, World(mtus={3: 1500}))
    assert go(machine)[0] == 7
    kinds = [(r.kind, r.details["ifindex"]) for r in machine.recorder.records]
    assert kinds == [("redirect_peer", 7), ("clone_redirect", 3), ("redirect", 5)]
    assert machine.recorder.records[1].data == FRAME


DEVICES = """struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4); __type(key, __u32);
    __type(value, struct bpf_devmap_val); } dev SEC(".maps");"""


def test_a_redirect_by_map_needs_a_target(machine_of):
    body = """__u32 k = 2; struct bpf_devmap_val *v = bpf_map_lookup_elem(&dev, &k);
    return (v ? v->ifindex * 100 : 0) + bpf_redirect_map(&dev, 2, XDP_DROP);"""
    text = program(body, DEVICES, "xdp", "struct xdp_md")
    machine = machine_of(text, kind="xdp")
    assert go(machine)[0] == 1
    machine.maps["dev"].put(2, (9).to_bytes(4, "little"))
    assert go(machine)[0] == 904
    assert machine.recorder.records[-1].details == {"map": "dev", "key": 2, "flags": 1}


PER_CPU = """struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1);
    __type(key, __u32); __type(value, __u32); } m SEC(".maps");"""


def test_each_cpu_has_its_value(machine_of):
    body = """__u32 k = 0, *v = bpf_map_lookup_elem(&m, &k); if (!v) return -1; *v = 5;
    __u32 *o = bpf_map_lookup_percpu_elem(&m, &k, 1); if (!o) return -2; *o = 7;
    return bpf_get_smp_processor_id() * 100 + !bpf_map_lookup_percpu_elem(&m, &k, 4);"""
    machine = machine_of(program(body, PER_CPU), World(cpus=4, cpu=2))
    assert go(machine)[0] == 201
    assert machine.maps["m"].content() == {"00000000": "00000000070000000500000000000000"}


def test_who_runs_is_an_input(machine_of):
    body = """char c[8]; bpf_get_current_comm(c, 8);
    return (bpf_get_current_pid_tgid() >> 32) * 1000 + (__u32)bpf_get_current_pid_tgid() + c[1];"""
    world = World(process=Process(tgid=3, pid=4, comm=b"a\2cdefghij"))
    assert go(machine_of(program(body), world))[0] == 3006


def test_interfaces_are_an_input(machine_of):
    body = "__u32 n = 0; long r = bpf_check_mtu(ctx, 1, &n, {0}, 0); return r * 10000 + n;"
    world = World(mtus={1: 50})
    assert go(machine_of(program(body.replace("{0}", "0")), world))[0] == 50
    assert go(machine_of(program(body.replace("{0}", "1")), world))[0] == 10050
    none = program("__u32 n = 0; return bpf_check_mtu(ctx, 2, &n, 0, 0);")
    assert go(machine_of(none, world))[0] == 2**32 - 19


LRU = """struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 2);
    __type(key, __u32); __type(value, __u32); } m SEC(".maps");"""
INSERT = "k = {0}; bpf_map_update_elem(&m, &k, &k, 0); "


def test_lru_evicts_what_was_used_least_recently_and_says_so(run):
    fill = "__u32 k; " + INSERT.format(1) + INSERT.format(2)
    touch = "k = 1; bpf_map_lookup_elem(&m, &k); " + INSERT.format(3)
    seen = run(program(fill + touch + "return 0;", LRU))
    assert set(seen.maps["m"]) == {"01000000", "03000000"}
    assert seen.doubts == ("eviction from a full LRU of map m",)
    assert run(program(fill + "return 0;", LRU)).doubts == ()


RING = """struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } rb SEC(".maps");
"""


def test_records_of_a_ring_buffer_can_be_read_back(machine_of):
    body = """__u32 a = 0x11223344; bpf_ringbuf_output(&rb, &a, 3, 0);
    __u64 *p = bpf_ringbuf_reserve(&rb, 8, 0); if (!p) return 1; *p = 5;
    __u64 *q = bpf_ringbuf_reserve(&rb, 8, 0); if (!q) { bpf_ringbuf_discard(p, 0); return 2; }
    *q = 6; bpf_ringbuf_discard(p, 0); bpf_ringbuf_submit(q, 0); return 0;"""
    machine = machine_of(program(body, RING))
    assert go(machine)[0] == 0
    ring = machine.maps["rb"]
    area = ring.area()
    assert area[:11] == (3).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"\x44\x33\x22"
    assert area[16:20] == (8 | 1 << 30).to_bytes(4, "little")
    assert list(ring.consume()) == [b"\x44\x33\x22", (6).to_bytes(8, "little")]
    assert (ring.available, ring.consumer) == (0, 48)


def test_a_record_is_gone_after_submit(run):
    body = """__u64 *p = bpf_ringbuf_reserve(&rb, 8, 0); if (!p) return 1; *p = 5;
    bpf_ringbuf_submit(p, 0); asm volatile("" : "+r"(p)); return *p;"""
    assert "nothing is there" in run(program(body, RING)).message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("struct bpf_dynptr p; bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &p); return 0;",
         "ring buffer dynptr of map rb"),
        ("struct bpf_dynptr p; bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &p); "
         "bpf_ringbuf_submit_dynptr(&p, 0); bpf_ringbuf_submit_dynptr(&p, 0); return 0;",
         "no such ring buffer dynptr is held"),
        ("char b[4] = {}; return bpf_skb_load_bytes(ctx, 0, b, 8);", "helper writes of 8 bytes"),
        ("return bpf_skb_load_bytes((void *)&rb, 0, (void *)&rb, 8);", "not the context"),
        ("__u32 k = 0; return bpf_map_update_elem(&rb, &k, &k, 0);", "has no keys"),
        ("__u32 k = 0; return bpf_ringbuf_output(ctx, &k, 4, 0);", "is not a map"),
    ],
)  # fmt: skip
def test_misuse_is_reported_with_the_line(run, body, words):
    seen = run(program(body, RING))
    assert seen.verdict == "rejected"
    assert words in seen.message.replace("dynptr of rb", "dynptr of map rb")
    assert ".bpf.c:" in seen.message


def test_unknown_helpers_are_named(run):
    seen = run(program("return bpf_sk_lookup_tcp(ctx, 0, 0, 0, 0) != 0;"))
    assert seen.message.startswith("unsupported: helper bpf_sk_lookup_tcp (number 84)")


def test_names_are_the_kernels():
    assert len(HELPERS) >= 100
    for number, (name, count, _, _) in HELPERS.items():
        assert NAMES[number] == name
        assert 0 <= count <= 5


def test_the_page_is_current():
    written = (Path(__file__).parents[2] / "docs" / "helpers.md").read_text()
    assert written == helpertable.page(), "run python -m harness.sim.helpertable > docs/helpers.md"


TRACING = """
__u64 seen[4];
__attribute__((noinline)) int watched(int a, int b)
{ asm volatile("" : "+r"(a), "+r"(b)); return a * 10 + b; }
SEC("tc") int entry(struct __sk_buff *ctx) { return watched(3, 4); }
SEC("?fexit/watched") int after(__u64 *ctx)
{
    seen[0] = bpf_get_func_arg_cnt(ctx);
    bpf_get_func_arg(ctx, 1, &seen[1]);
    bpf_get_func_ret(ctx, &seen[2]);
    seen[3] = bpf_get_func_arg(ctx, 2, &seen[3]);
    return 0;
}
SEC("?fentry/watched") int before(__u64 *ctx)
{ seen[0] = bpf_get_func_ret(ctx, &seen[1]); return 0; }
"""


def words(*numbers):
    return b"".join((n & 2**64 - 1).to_bytes(8, "little") for n in numbers).hex()


def test_tracing_programs_ask_for_arguments_and_result(run):
    after = run(TRACING, attach=("after",))
    assert (after.retval, after.maps[".bss"]["seen"]) == (34, words(2, 4, 34, -22))
    before = run(TRACING, attach=("before",))
    assert before.maps[".bss"]["seen"] == words(-95, 0, 0, 0)


STORAGE = """struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, 1);
    __type(key, int); __type(value, __u64); } m SEC(".maps");
struct task_struct;"""


def test_task_storage(run):
    body = """void *t = bpf_get_current_task_btf(); __u64 *v = bpf_task_storage_get(&m, t, 0, 0);
    if (v) return 1; v = bpf_task_storage_get(&m, t, 0, 1); if (!v) return 2; *v += 5;
    v = bpf_task_storage_get(&m, t, 0, 0); if (!v) return 3;
    return *v * 100 + bpf_task_storage_delete(&m, t) - bpf_task_storage_delete(&m, t);"""
    assert run(program(body, STORAGE)).retval == 502


LOCKED = """struct locked { struct bpf_spin_lock lock; int n; };
struct { __uint(type, BPF_MAP_TYPE_%s); __uint(max_entries, 1); __type(key, int);
    __type(value, struct locked); } m SEC(".maps");"""


@pytest.mark.parametrize("kind", ["ARRAY", "HASH"])
def test_a_lock_in_a_value_is_the_kernels(run, kind):
    body = """int k = 0; struct locked v = {{1}, 5};
    if (bpf_map_update_elem(&m, &k, &v, BPF_F_LOCK)) return 1;
    struct locked *p = bpf_map_lookup_elem(&m, &k); if (!p) return 2;
    bpf_spin_lock(&p->lock); p->n++; bpf_spin_unlock(&p->lock); v.n = 9;
    int n = p->n; if (bpf_map_update_elem(&m, &k, &v, BPF_F_LOCK)) return 3;
    return n * 10 + p->n;"""
    seen = run(program(body, LOCKED % kind))
    assert (seen.retval, seen.maps["m"]) == (69, {"00000000": "0000000009000000"})


KPTR = """#define __kptr __attribute__((btf_type_tag("kptr")))
struct node { int n; }; struct slot { struct node __kptr *p; };
extern void *bpf_obj_new_impl(unsigned long type, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *p, void *meta) __ksym;
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
    __type(value, struct slot); } m SEC(".maps");"""


def test_a_pointer_changes_hands(run):
    body = """int k = 0; struct slot *s = bpf_map_lookup_elem(&m, &k); if (!s) return 1;
    struct node *made = bpf_obj_new_impl(__builtin_btf_type_id(struct node {{0}}, 0), 0);
    if (!made) return 2; made->n = 7; struct node *old = bpf_kptr_xchg(&s->p, made);
    if (old) {{ bpf_obj_drop_impl(old, 0); return 3; }}
    old = bpf_kptr_xchg(&s->p, (void *)0); if (!old) return 4;
    int n = old->n; bpf_obj_drop_impl(old, 0); return n * 10;"""
    text = program(body.replace("{{0}}", "").replace("{{", "{").replace("}}", "}"), KPTR)
    text = text.replace("struct node ,", "*(struct node *)0,")
    assert run(text).retval == 70


def test_an_array_too_big_to_list_is_left_out(run):
    huge = """struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2000000000);
    __type(key, __u32); __type(value, __u32); } m SEC(".maps");"""
    seen = run(program("__u32 k = 7, *v = bpf_map_lookup_elem(&m, &k); return !v;", huge))
    assert (seen.retval, seen.maps) == (0, {})
