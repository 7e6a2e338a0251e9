# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps, globals, contexts, packets, helpers, hooks: what a program reads and leaves behind."""

import pytest

from harness.compare import has_say
from harness.sim import run_case

MAP = """
struct {{ __uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, 2);
    __type(key, __u32); __type(value, __u64); }} m SEC(".maps");
"""


def tc(body, before="", section="tc", ctx="struct __sk_buff"):
    return f'{before}\nSEC("{section}") int entry({ctx} *ctx) {{ {body} }}\n'


def xdp(body, before=""):
    return tc(body, before, "xdp", "struct xdp_md")


UPDATE = "__u32 k = {key}; __u64 v = {value}; return bpf_map_update_elem(&m, &k, &v, {flags});"


@pytest.mark.parametrize(
    ("kind", "key", "flags", "retval"),
    [
        ("HASH", 7, "BPF_ANY", 0),
        ("HASH", 7, "BPF_NOEXIST", 0),
        ("HASH", 7, "BPF_EXIST", -2),
        ("HASH", 7, "7", -22),
        ("ARRAY", 1, "BPF_ANY", 0),
        ("ARRAY", 1, "BPF_NOEXIST", -17),
        ("ARRAY", 2, "BPF_ANY", -7),
        ("PERCPU_ARRAY", 1, "BPF_EXIST", 0),
        ("LRU_HASH", 7, "BPF_ANY", 0),
    ],
)
def test_update(run, kind, key, flags, retval):
    seen = run(tc(UPDATE.format(key=key, value=9, flags=flags), MAP.format(kind=kind)))
    assert seen.retval == retval & 0xFFFFFFFF
    if retval == 0:
        assert seen.maps["m"][key.to_bytes(4, "little").hex()] == "0900000000000000"


@pytest.mark.parametrize(
    ("body", "verdict", "words"),
    [
        ("return *(volatile __u32 *)((void *)&m + 36);", "unsupported", "own struct of map m"),
        ("return *(volatile __u8 *)((void *)&m + 9000);", "rejected", "offset 9000 of map m"),
        ("*(volatile __u32 *)((void *)&m + 36) = 1; return 0;", "rejected", "read-only"),
    ],
)
def test_the_kernels_own_struct_of_a_map_is_not_known(run, body, verdict, words):
    seen = run(tc(body, MAP.format(kind="HASH")))
    assert (seen.verdict, words in seen.message) == (verdict, True)


def test_array_lists_all_keys_and_hash_only_what_is_there(run):
    body = "__u32 k = 1; __u64 *v = bpf_map_lookup_elem(&m, &k); if (v) *v = 5; return !v;"
    array, empty = (run(tc(body, MAP.format(kind=kind))) for kind in ("ARRAY", "HASH"))
    assert array.maps["m"] == {"00000000": "0" * 16, "01000000": "05" + "0" * 14}
    assert (empty.maps["m"], empty.retval) == ({}, 1)


def test_full_hash_and_delete(run):
    body = """
    __u64 v = 1; __u32 k = 1; bpf_map_update_elem(&m, &k, &v, 0); k = 2;
    bpf_map_update_elem(&m, &k, &v, 0); k = 3;
    if (bpf_map_update_elem(&m, &k, &v, 0) != -7) return 1;
    if (bpf_map_delete_elem(&m, &k) != -2) return 2;
    k = 1; if (bpf_map_delete_elem(&m, &k)) return 3;
    return 0;"""
    seen = run(tc(body, MAP.format(kind="HASH")))
    assert (seen.retval, list(seen.maps["m"])) == (0, ["02000000"])


def test_value_is_bounded_by_itself(run):
    body = "__u32 k = 0; __u64 *v = bpf_map_lookup_elem(&m, &k); return v ? v[1] : 0;"
    assert "offset 8 of m[00000000]" in run(tc(body, MAP.format(kind="ARRAY"))).message


def test_map_type_that_is_not_modelled_is_unsupported(run):
    body = "__u32 k = 0; return !bpf_map_lookup_elem(&m, &k);"
    seen = run(tc(body, MAP.format(kind="SOCKHASH")))
    assert seen.verdict == "unsupported"
    assert "map type sockhash of map m" in seen.message


def test_queue_and_stack(run):
    queue = (
        "struct { __uint(type, BPF_MAP_TYPE_%s); __uint(max_entries, 2); __type(value, __u32); }"
        ' m SEC(".maps");'
    )
    body = """__u32 v = 1; bpf_map_push_elem(&m, &v, 0); v = 2; bpf_map_push_elem(&m, &v, 0);
    if (bpf_map_push_elem(&m, &v, 0) != -7) return 100; bpf_map_pop_elem(&m, &v);
    __u32 w = 0; bpf_map_peek_elem(&m, &w); return v * 10 + w;"""
    assert run(tc(body, queue % "QUEUE")).retval == 12
    assert run(tc(body, queue % "STACK")).retval == 21


def test_for_each_map_elem(run):
    before = MAP.format(kind="ARRAY") + (
        "static long each(void *map, __u32 *k, __u64 *v, __u64 *sum) { *sum += *k + *v; return 0; }"
    )
    body = """__u32 k = 1; __u64 v = 40, sum = 0; bpf_map_update_elem(&m, &k, &v, 0);
    long n = bpf_for_each_map_elem(&m, each, &sum, 0); return n * 1000 + sum;"""
    assert run(tc(body, before)).retval == 2041


def test_bpf_loop_stops_when_told(run):
    before = "static long each(__u32 i, __u64 *sum) { *sum += i; return i == 3; }"
    body = "__u64 sum = 0; long n = bpf_loop(10, each, &sum, 0); return n * 100 + sum;"
    assert run(tc(body, before)).retval == 406


def test_globals_keep_their_initial_values_and_writes(run):
    before = "int zero; int five = 5; static volatile long away = -1; const volatile int ro = 8;"
    before += ' int named SEC(".data.named") = 3;'
    seen = run(tc("zero += ro; five++; named--; away--; return five;", before))
    assert seen.retval == 6
    assert seen.maps == {
        ".bss": {"zero": "08000000"},
        ".data": {"five": "06000000", "away": "feffffffffffffff"},
        ".data.named": {"named": "02000000"},
    }


def test_read_only_globals_cannot_be_written(run):
    seen = run(tc("*(volatile int *)&ro = 1; return 0;", "const volatile int ro = 8;"))
    assert "read-only" in seen.message


def test_skb_fields_of_test_run(run):
    body = "return ctx->len * 65536 + bpf_ntohs(ctx->protocol);"
    text = "#include <bpf/bpf_endian.h>\n" + tc(body)
    assert run(text).retval == 64 * 65536 + 0x0800
    assert run(tc("ctx->mark = 7; ctx->cb[2] = 1; return ctx->mark + ctx->cb[2];")).retval == 8


@pytest.mark.parametrize(
    ("field", "hook"),
    [("sk != 0", "test_run"), ("ifindex", "tc-ingress"), ("tc_classid", "tc-egress")],
)
def test_skb_field_that_depends_on_the_machine_is_unsupported(run, field, hook):
    seen = run(tc(f"return ctx->{field};"), hook=hook)
    assert seen.verdict == "unsupported"
    assert "__sk_buff." in seen.message


BOUNDS = """
void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
if (data + {size} > end) bpf_throw(XDP_DROP);
return ((unsigned char *)data)[{size} - 1];
"""


@pytest.mark.parametrize(("size", "retval"), [(64, 49), (65, 1), (1, 0)])
def test_packet_bounds(run, size, retval):
    assert run(xdp(BOUNDS.format(size=size))).retval == retval


def test_packet_access_without_a_check_faults(run):
    seen = run(xdp("return ((unsigned char *)(long)ctx->data)[64];"))
    assert "offset 320 of packet, which has offsets 256..320" in seen.message


def test_packet_writes_come_out(run):
    text = xdp(BOUNDS.format(size=12).replace("return", "((char *)data)[0] = 0x55; return"))
    packet = bytes(64)
    assert run(text, packet=packet).data_out == b"\x55" + packet[1:]


def test_adjust_head_and_tail_move_the_frame(run):
    text = xdp("bpf_xdp_adjust_head(ctx, 4); bpf_xdp_adjust_tail(ctx, -8); return XDP_PASS;")
    packet = bytes(range(64))
    assert run(text, packet=packet).data_out == packet[4:-8]


def test_load_and_store_bytes(run):
    body = """unsigned char b[4]; if (bpf_skb_load_bytes(ctx, 61, b, 4) != -14) return 1;
    if (bpf_skb_load_bytes(ctx, 20, b, 4)) return 2; b[0]++;
    return bpf_skb_store_bytes(ctx, 0, b, 4, 0);"""
    packet = bytes(range(64))
    seen = run(tc(body), packet=packet)
    assert (seen.retval, seen.data_out) == (0, b"\x15\x15\x16\x17" + packet[4:])


def test_cgroup_skb_starts_at_the_network_header(run):
    text = tc("return *(char *)(long)ctx->data == 7;", section="cgroup_skb/egress")
    text = text.replace("return", "if (ctx->data + 1 > ctx->data_end) return 0; return")
    packet = bytes(14) + b"\x07" + bytes(40)
    old, new = (run(text, packet=packet, profile=profile) for profile in ("6.12", "6.18"))
    assert (old.retval, new.retval) == (0, 1)  # 6.12 never sets data_end here
    assert old.data_out == new.data_out == packet


def test_vlan_tag_is_out_of_the_frame_on_live_ingress(run):
    packet = bytes(12) + bytes.fromhex("81000005") + b"\x08\x00" + bytes(46)
    text = tc("return ctx->vlan_present * 1000 + ctx->len;")
    inline, live = run(text, packet=packet), run(text, packet=packet, hook="tc-ingress")
    assert inline.retval == 64
    assert live.retval == 1060
    assert live.data_out == packet[:12] + packet[16:]


@pytest.mark.parametrize(
    ("hook", "value", "wire", "leaves"),
    [
        ("xdp-native", "XDP_PASS", "pass", True),
        ("xdp-native", "XDP_TX", "tx", True),
        ("xdp-generic", "XDP_DROP", "drop", False),
        ("xdp-generic", "77", "aborted", False),
    ],
)
def test_live_hook_says_what_the_wire_shows(run, hook, value, wire, leaves):
    seen = run(xdp(f"bpf_throw({value}); return 0;"), hook=hook, repeat=2)
    assert seen.wire == (wire, wire)
    assert (seen.data_out is not None) is leaves


def test_syscall_context_is_memory(run):
    text = (
        "struct args { long a; int b; };\n"
        'SEC("syscall") int entry(struct args *ctx) { bpf_throw(ctx->a + ctx->b); return 0; }'
    )
    assert run(text, ctx=(40).to_bytes(8, "little") + (2).to_bytes(4, "little")).retval == 42
    assert "out of bounds" in run(text, ctx=bytes(8)).message


def test_iterator(run):
    text = """
    struct bpf_iter_num { __u64 opaque; } __attribute__((aligned(8)));
    extern int bpf_iter_num_new(struct bpf_iter_num *, int, int) __weak __ksym;
    extern int *bpf_iter_num_next(struct bpf_iter_num *) __weak __ksym;
    extern void bpf_iter_num_destroy(struct bpf_iter_num *) __weak __ksym;
    SEC("tc") int entry(struct __sk_buff *ctx) { struct bpf_iter_num it; int *v, sum = 0;
      bpf_iter_num_new(&it, 2, 6); while ((v = bpf_iter_num_next(&it))) sum = sum * 10 + *v;
      bpf_iter_num_destroy(&it); bpf_throw(sum); return 0; }"""
    assert run(text).retval == 2345


@pytest.mark.parametrize("section", ["fentry/x", "kprobe/x", "tp/x/y", "nonsense"])
def test_type_without_test_run_is_unsupported(run, section):
    seen = run(f'SEC("{section}") int entry(void *ctx) {{ return 0; }}')
    assert seen.verdict == "unsupported"


def test_frame_too_short_for_the_kernel_is_unsupported(run):
    assert run(tc("return 0;"), packet=bytes(13)).verdict == "unsupported"


def test_two_machines_share_nothing(case_of):
    case = case_of(tc("return ++n;", "int n;"))
    assert [run_case(case, "6.12").retval for _ in range(2)] == [1, 1]


def test_what_libbpf_refuses_is_rejected_in_its_words(run):
    text = tc("bpf_throw(1); return 0;", "__exception_cb(nix)")
    seen = run(text)
    assert seen.verdict == "rejected"
    assert "cannot find exception callback 'nix'" in seen.message


def test_a_load_is_only_judged_where_it_is_refused_without_a_verifier(run):
    quiet, throws = (
        f'SEC("raw_tp/x") int entry(void *ctx) {{ {body} return 0; }}'
        for body in ("", "bpf_throw(1);")
    )
    assert run(quiet, hook="load").verdict == "unsupported"
    assert run(throws, hook="load", profile="7.3").verdict == "unsupported"
    assert run(throws, hook="load").verdict == "rejected"
    broken = tc("bpf_throw(1); return 0;", "__exception_cb(nix)")
    assert run(broken, hook="load").verdict == "rejected"


@pytest.mark.parametrize("profile", ["6.12", "7.3"])
def test_csum_diff_updates_a_checksum(run, profile):
    """However it is represented, folding it must give the sum of what came less what went."""
    body = """__u32 gone[2] = {0x12345678, 0xffff0001}, come[2] = {0xdeadbeef, 0x80000000};
    __u64 s = bpf_csum_diff(gone, 8, come, 8, 0x1111);
    s = (s & 0xffff) + (s >> 16); s = (s & 0xffff) + (s >> 16); return s;"""
    expected = (0x1111 - 0x12345678 - 0xFFFF0001 + 0xDEADBEEF + 0x80000000) % 0xFFFF
    assert run(tc(body), profile=profile).retval % 0xFFFF == expected


def test_endless_recursion_is_over_a_limit_of_the_simulator(run):
    before = """__noinline int f(int x) {
    int r = x ? f(x + 1) : 0; asm volatile("" : "+r"(r)); return r + x; }"""
    seen = run(tc("return f(1);", before), profile="7.3")
    assert seen.verdict == "unsupported"
    assert "more than 128 frames" in seen.message


# what 6.12.107, 6.18.15 and 7.3.4 answered in BPF_PROG_TEST_RUN
MEASURED = [
    ('char a[8] = "abcdefg"; return bpf_strncmp(a, 8, "abcdxfg");', -1),
    ('char a[8] = "abc"; return bpf_strncmp(a, 2, "abX");', 0),
    ('return bpf_printk("%5d|%05x|%c%%", 5, 255, 99);', 14),
    ('return bpf_printk("a %lld %s", -5LL, "str");', 8),
    ('return bpf_printk("%hhd", 300);', -22),
    ("__u64 y = 1; long r = bpf_probe_read_kernel(&y, 8, 0); return r * 10 + y;", -340),
    ("return bpf_skb_pull_data(ctx, 65);", -12),
    ("return bpf_redirect(1, 2);", 2),
    ("return ctx->pkt_type;", 3),
    ("return ctx->ingress_ifindex * 10 + ctx->ifindex;", 1),
    ("ctx->queue_mapping = 5; barrier(); return ctx->queue_mapping;", 5),
    ("ctx->queue_mapping = 70000; barrier(); return ctx->queue_mapping;", 0),
    ("ctx->tc_index = 70000; barrier(); return ctx->tc_index;", 4464),
    ("ctx->tc_classid = 0x10002; barrier(); return ctx->tc_classid;", 2),
    ("return bpf_loop((8 << 20) + 1, never, 0, 0);", -7),
]


@pytest.mark.parametrize(("body", "retval"), MEASURED)
def test_values_measured_on_kernels(run, body, retval):
    before = "static long never(__u32 i, void *c) { return 0; }"
    packet = bytes([2, 0, 0, 0, 0, 2]) + bytes(58)
    seen = run(tc(body, before if "never" in body else ""), packet=packet)
    assert seen.retval == retval & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("delta", "retval"), [(-200, 0), (-216, 0), (-217, -22), (50, 0), (51, -22)]
)
def test_head_moves_within_the_limits_measured_on_kernels(run, delta, retval):
    seen = run(xdp(f"return bpf_xdp_adjust_head(ctx, {delta});"))
    assert seen.retval == retval & 0xFFFFFFFF


def test_metadata_comes_out_of_test_run_but_not_of_the_wire(run):
    text = xdp("bpf_xdp_adjust_meta(ctx, -4); return XDP_PASS;")
    packet = bytes(range(64))
    assert run(text, packet=packet).data_out == bytes(4) + packet
    assert run(text, packet=packet, hook="xdp-native").data_out == packet


def test_per_cpu_hash_is_updated_in_place_and_hash_is_replaced(run):
    body = """__u32 k = 1; __u64 v = 3; bpf_map_update_elem(&m, &k, &v, 0);
    __u64 *p = bpf_map_lookup_elem(&m, &k); if (!p) return -1; v = 4;
    bpf_map_update_elem(&m, &k, &v, 0); *p += 10; p = bpf_map_lookup_elem(&m, &k);
    return p ? *p : -2;"""
    assert run(tc(body, MAP.format(kind="PERCPU_HASH"))).retval == 14
    assert run(tc(body, MAP.format(kind="HASH"))).retval == 4


STOPS = """static long each(void *map, __u32 *k, __u64 *v, void *c) { return 1; }"""
FILL = "__u32 k = 0; __u64 v = 1; bpf_map_update_elem(&m, &k, &v, 0); "
SECOND = "k = 1; bpf_map_update_elem(&m, &k, &v, 0); "


@pytest.mark.parametrize(
    ("kind", "fill", "doubtful"),
    [("HASH", FILL, False), ("HASH", FILL + SECOND, True), ("ARRAY", FILL + SECOND, False)],
)
def test_order_of_a_hash_is_not_known(run, kind, fill, doubtful):
    body = f"{fill} return bpf_for_each_map_elem(&m, each, 0, 0);"
    seen = run(tc(body, MAP.format(kind=kind) + STOPS))
    assert (seen.verdict, seen.retval) == ("ran", 1)
    assert bool(seen.doubts) == doubtful
    assert has_say(seen) is not doubtful


@pytest.mark.parametrize(
    "body",
    ["return bpf_get_current_pid_tgid();", "char c[8]; return bpf_get_current_comm(c, 8);"],
)
def test_who_runs_the_program_is_not_known(run, body):
    assert run(tc(body)).verdict == "unsupported"


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("return bpf_redirect(1, 0);", "unsupported"),
        ("return bpf_redirect(1, 9);", "ran"),
        ("return bpf_xdp_adjust_head(ctx, -216) ? 0 : 2;", "ran"),
        ("return bpf_xdp_adjust_head(ctx, -217) ? 0 : 2;", "unsupported"),
        ("return bpf_xdp_adjust_head(ctx, 51) ? 0 : 2;", "ran"),
        ("return bpf_xdp_adjust_meta(ctx, -220) ? 0 : 2;", "unsupported"),
    ],
)
def test_what_depends_on_the_interface_is_unsupported_on_live_hooks_only(run, body, verdict):
    assert run(xdp(body)).verdict == "ran"
    assert run(xdp(body), hook="xdp-native").verdict == verdict


@pytest.mark.parametrize(("size", "verdict"), [(3520, "ran"), (3521, "unsupported")])
def test_xdp_frame_that_does_not_fit_a_page_is_unsupported(run, size, verdict):
    assert run(xdp("return 0;"), packet=bytes(size)).verdict == verdict
