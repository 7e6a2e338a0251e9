# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The native engine: agreement with the reference interpreter, region table, batches, declining.

llvmlite is part of the `test` extra: without it these tests fail.
"""

import gc
import random
import struct
from array import array

import native_programs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bpf.isa import Insn
from harness.bpf.link import LinkedFunction, Program
from harness.sim import pcap
from harness.sim.batch import Batch
from harness.sim.context import Context
from harness.sim.engines import Declined, native, native_batch, native_bridge, reference
from harness.sim.engines.native_records import records
from harness.sim.replay import PacketRunner
from harness.sim.run import machine_for, map_content
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import Trace

LEVELS = (native.QUICK, native.FULL)
FRAME = bytes(range(12)) + b"\x08\x00" + bytes(range(50))


def at_level(level):
    return lambda machine, program: native.prepare(machine, program, level)


# ---- raw instructions ----------------------------------------------------------------------------


# a machine raises Python's recursion limit: before hypothesis looks at it
native_programs.run(native_programs.program(random.Random(0)), reference.prepare)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    level=st.sampled_from((native.QUICK, native.QUICK, native.QUICK, native.FULL)),
)
def test_random_programs_agree_with_the_interpreter(seed, level):
    """Result, words of the error, remaining budget, memory, throws, clock; twice in one machine."""
    made = native_programs.program(random.Random(seed))
    expected = native_programs.run(made, reference.prepare, runs=2)
    assert native_programs.run(made, at_level(level), runs=2) == expected


@pytest.mark.parametrize("level", LEVELS)
def test_budget_ends_a_loop_at_the_same_block(level):
    insns = (Insn(0xB7, 0, 0, 0, 0), Insn(0x07, 0, 0, 0, 1), Insn(0x05, 0, 0, -2, 0))
    made = Program("p", "xdp", insns, (LinkedFunction("p", 0, 3, "global"),), {}, {})
    for budget in (0, 1, 2, 3, 1001, 5000):
        expected = native_programs.run(made, reference.prepare, budget)
        assert native_programs.run(made, at_level(level), budget) == expected
        assert "instruction budget used up" in expected.error


def test_compiled_programs_go_away():
    """Code is kept for the last 64 texts only; machines and what they share are collected."""
    for value in range(70):
        insns = (Insn(0xB7, 0, 0, 0, value), Insn(0x95, 0, 0, 0, 0))
        made = Program("p", "xdp", insns, (LinkedFunction("p", 0, 2, "global"),), {}, {})
        assert native_programs.run(made, native.prepare).value == value
    assert len(native._modules) <= 64
    gc.collect()
    bridges = [one for one in gc.get_objects() if isinstance(one, native_bridge.Bridge)]
    assert len(bridges) < 5


# ---- programs in C -------------------------------------------------------------------------------

TEXT = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 100);
         __type(key, __u32); __type(value, __u64); } many SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64);
         __type(key, __u32); __type(value, __u64); } lengths SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
__u64 seen, total, caught;
const volatile __u32 limit = 60;

int catches(__u64 cookie) { caught++; return cookie & 0xff; }
static __noinline int check(int len) { if (len < 40) bpf_throw(len << 8 | 1); return 2; }

__exception_cb(catches) SEC("xdp") int entry(struct xdp_md *ctx)
{
    __u32 len = ctx->data_end - ctx->data;
    seen++;
    total += len;
    return check(len);
}

/* touches each of 100 values: more than the region table has entries */
SEC("xdp") int table(struct xdp_md *ctx)
{
    __u64 sum = 0;
    for (__u32 i = 0; i < 100; i++) {
        __u64 *value = bpf_map_lookup_elem(&many, &i);
        if (value) { *value += i; sum += *value; }
    }
    for (__u32 i = 0; i < 100; i++) {
        __u64 *value = bpf_map_lookup_elem(&many, &i);
        if (value) sum += *value;
    }
    return sum & 0xffff;
}

/* a new map value for each new length */
SEC("xdp") int learns(struct xdp_md *ctx)
{
    __u32 len = ctx->data_end - ctx->data;
    __u64 one = 1, *old = bpf_map_lookup_elem(&lengths, &len);
    if (old) { (*old)++; return *old; }
    return bpf_map_update_elem(&lengths, &len, &one, 0) ? 77 : 1;
}

SEC("xdp") int moves(struct xdp_md *ctx)
{
    unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 20 > end) return 1;
    data[0] = 0xaa;
    if (bpf_xdp_adjust_head(ctx, data[19] & 1 ? -8 : 8)) return 3;
    data = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (data + 14 > end) return 4;
    data[1] = 0xbb;
    return end - data;
}

SEC("xdp") int stale(struct xdp_md *ctx)
{
    unsigned char *data = (void *)(long)ctx->data;
    bpf_xdp_adjust_head(ctx, -8);
    return *(volatile unsigned char *)data;
}

SEC("xdp") int beyond(struct xdp_md *ctx)
{
    unsigned char *data = (void *)(long)ctx->data;
    return *(volatile unsigned int *)(data + limit);
}

SEC("xdp") int released(struct xdp_md *ctx)
{
    __u64 *record = bpf_ringbuf_reserve(&ring, 16, 0);
    if (!record) return 1;
    *record = 5;
    bpf_ringbuf_discard(record, 0);
    return *(volatile __u64 *)record;
}

SEC("xdp") int leaks(struct xdp_md *ctx)
{
    __u64 *record = bpf_ringbuf_reserve(&ring, 16, 0);
    return record ? ctx->rx_queue_index + 2 : 1;
}

SEC("xdp") int writes_constant(struct xdp_md *ctx)
{
    *(volatile __u32 *)&limit = 5;
    return 2;
}

static long adds(__u32 index, __u64 *sum) { *sum += index; return *sum > 100; }
SEC("xdp") int loops(struct xdp_md *ctx)
{
    __u64 sum = (long)ctx->data_end - (long)ctx->data;
    __u32 rounds = bpf_loop(50, adds, &sum, 0);
    if (rounds == 1) bpf_throw(sum);
    return rounds + sum;
}

static long throws(__u32 index, __u64 *sum) { *sum += index; bpf_throw(3); return 0; }
SEC("xdp") int throws_below(struct xdp_md *ctx)
{
    __u64 sum = 0;
    bpf_loop(3, throws, &sum, 0);
    return sum;
}

static __noinline int forever(int depth) { return depth ? forever(depth - 1) + 1 : 0; }
SEC("xdp") int deep(struct xdp_md *ctx) { return forever(ctx->data_end - ctx->data); }

SEC("xdp") int spins(struct xdp_md *ctx)
{
    volatile int rounds = 0;
    while (ctx->data_end - ctx->data != 14) rounds++;
    return rounds + 2;
}
SEC("xdp") int target(struct xdp_md *ctx) { return seen + 40; }
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __type(key, __u32);
         __array(values, int (void *)); } jumps SEC(".maps") = {
    .values = { [1] = (void *)&target } };
static __noinline int goes(struct xdp_md *ctx, int where)
{
    bpf_tail_call(ctx, &jumps, where);
    return 5;
}
SEC("xdp") int tail(struct xdp_md *ctx)
{
    return goes(ctx, (ctx->data_end - ctx->data) & 1) + 100;
}
"""
PROGRAMS = (
    "entry", "table", "learns", "moves", "stale", "beyond", "released", "leaks",
    "writes_constant", "loops", "throws_below", "deep", "spins", "tail",
)  # fmt: skip
# lengths on both sides of every limit, also none that a kernel takes
FRAMES = [
    (FRAME * 40)[:size] for size in (14, 13, 60, 0, 39, 40, 41, 61, 64, 90, 1, 1500, 14, 3521)
]


def a_batch(frames):
    data, offsets = b"", array("Q")
    for frame in frames:
        data += b"\xee" * 16
        offsets.append(len(data))
        data += frame
    lengths = array("Q", map(len, frames))
    return Batch(data, offsets, lengths, lengths[:], array("Q", bytes(8 * len(frames))))


def state(machine):
    """What machines must agree on after a run."""
    maps = map_content(machine)
    sections = {name: bytes(region.data) for name, region in machine.sections.items()}
    regions = {key: region.name for key, region in machine.memory.regions.items()}
    held = [(one.kind, one.address, one.depth) for one in machine.resources.live]
    return maps, sections, regions, machine.clock_ns, held


def machine_of(case, engine, budget=20_000):
    machine = machine_for(case, "6.12", Trace(), budget)
    machine.engine = engine
    return machine


@pytest.mark.parametrize("program", PROGRAMS)
def test_batches_agree_with_packets_one_by_one(case_of, program):
    case = case_of(TEXT, program)
    slow, fast = machine_of(case, reference.prepare), machine_of(case, native.prepare)
    one_by_one = PacketRunner(slow, case, "reference")
    native_run = native_batch.NativeRunner(fast, case, fast.code(fast.program(program)))
    for frames in (False, True, False):
        expected = one_by_one(a_batch(FRAMES * 2), frames=frames)
        assert native_run(a_batch(FRAMES * 2), frames=frames) == expected
        assert state(fast) == state(slow)


@pytest.mark.parametrize("program", PROGRAMS)
def test_single_runs_agree(case_of, program):
    case = case_of(TEXT, program)
    outcomes = []
    for engine in (reference.prepare, native.prepare):
        machine = machine_of(case, engine)
        made = PacketRunner(machine, case, "any")(a_batch(FRAMES), frames=True)
        outcomes.append((made, state(machine), machine.budget))
    assert outcomes[0] == outcomes[1]


def test_batch_of_packets_that_native_code_does_not_take(case_of):
    """A VLAN tag is taken out on live ingress hooks: context and frame are Python's."""
    text = """SEC("tcx/ingress") int entry(struct __sk_buff *skb)
    { return skb->vlan_present * 1000 + skb->len + (skb->protocol & 0xff) + skb->pkt_type; }"""
    case = case_of(text.replace(" + skb->pkt_type", ""), hook="tcx-ingress")
    frames = [FRAME, FRAME[:12] + b"\x81\x00\x00\x05\x08\x00" + FRAME[14:], FRAME[:30]] * 3
    slow, fast = machine_of(case, reference.prepare), machine_of(case, native.prepare)
    code = fast.code(fast.program("entry"))
    made = native_batch.NativeRunner(fast, case, code)(a_batch(frames), frames=True)
    assert made == PacketRunner(slow, case, "reference")(a_batch(frames), frames=True)
    assert made.retvals[1] > 1000 > made.retvals[0]


def test_interrupt_in_a_batch_keeps_what_is_done(case_of, monkeypatch):
    case = case_of(TEXT, "learns")
    machine = machine_of(case, native.prepare)
    run = native_batch.NativeRunner(machine, case, machine.code(machine.program("learns")))
    asked = []

    def lookup(key):
        asked.append(key)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(type(machine.maps["lengths"]), "lookup", lambda _map, key: lookup(key))
    seen = run(a_batch(FRAMES[2:3] * 5), frames=False)
    assert seen.interrupted
    assert len(seen.retvals) == len(seen.threw) == len(seen.cookies) == 2


def test_python_errors_in_helpers_come_out_unchanged(case_of, monkeypatch):
    case = case_of(TEXT, "learns")
    machine = machine_of(case, native.prepare)
    broken = lambda _map, _key: 1 // 0  # noqa: E731
    monkeypatch.setattr(type(machine.maps["lengths"]), "lookup", broken)
    with pytest.raises(ZeroDivisionError):
        PacketRunner(machine, case, "native")(a_batch(FRAMES[2:3]), frames=False)


# ---- declining -----------------------------------------------------------------------------------


def test_declines_with_the_reason(case_of, monkeypatch):
    case = case_of(TEXT)
    machine = machine_of(case, native.prepare)
    program = machine.program("entry")
    machine.trace.on = True
    with pytest.raises(Declined, match="traced"):
        native.prepare(machine, program)
    machine.trace.on = False
    with pytest.raises(Declined, match="profile cleanup"):
        native.prepare(machine_for(case, "cleanup", Trace(), 1), program)
    monkeypatch.setattr(native, "llvm", None)
    with pytest.raises(Declined, match=r"pip install 'bpfthrow\[jit\]'"):
        native.prepare(machine, program)


def test_batch_declines_where_a_companion_sits_on_the_program(case_of):
    text = (
        TEXT
        + """
    SEC("fentry/entry") int BPF_PROG(watch) { return 0; }
    """
    )
    case = case_of("#include <bpf/bpf_tracing.h>\n" + text, attach=["watch"])
    machine = machine_of(case, native.prepare)
    with pytest.raises(Declined, match="companion"):
        native_batch.NativeRunner(machine, case, machine.code(machine.program("entry")))


# ---- captures ------------------------------------------------------------------------------------


def _record(order, captured, data):
    return struct.pack(order + "IIII", 5, 7, captured, captured + 3) + data


@settings(max_examples=200, deadline=None)
@given(
    order=st.sampled_from("<>"),
    parts=st.lists(
        st.tuples(st.integers(0, 40), st.integers(-2, 2)) | st.just((0, 300_000)), max_size=6
    ),
    tail=st.binary(max_size=40),
    unit=st.sampled_from([1, 1000]),
)
def test_records_are_walked_over_as_the_reader_does(order, parts, tail, unit):
    data = b"".join(_record(order, max(size + off, 0), b"x" * size) for size, off in parts) + tail
    assert records(data, order, unit) == pcap._records(data, order, unit)


# ---- the region table ----------------------------------------------------------------------------


def test_table_forgets_what_ended_moved_or_shrank():
    machine = native_programs.machine_for(
        native_programs.program(random.Random(1)), reference.prepare
    )
    bridge = native_bridge.Bridge(machine)
    region = machine.memory.region("thing", bytearray(32))
    bridge._remember(region.address)
    assert bridge._cached
    bridge.refresh()
    assert bridge._cached  # nothing changed
    with pytest.raises(BufferError):
        region.data += b"x"  # native code has its address
    region.high = 16
    bridge.refresh()
    assert not bridge._cached
    region.data += b"x"
    bridge._remember(region.address)
    machine.memory.release(region)
    bridge.refresh()
    assert not bridge._cached


def test_errors_of_memory_are_the_reference_machine_s():
    """Every access of every width around every kind of region, in one table."""
    for code in (0x61, 0x69, 0x71, 0x79, 0x62, 0x6A, 0x72, 0x7A):
        for offset in (-9, -8, -1, 0, 88, 89, 92, 93, 95, 96, 2000):
            insn = Insn(code, 1, 1, offset, 0) if code & 1 else Insn(code, 1, 0, offset, 5)
            insns = (insn, Insn(0xB7, 0, 0, 0, 1), Insn(0x95, 0, 0, 0, 0))
            made = Program("p", "xdp", insns, (LinkedFunction("p", 0, 3, "global"),), {}, {})
            expected = native_programs.run(made, reference.prepare)
            assert native_programs.run(made, native.prepare) == expected


def test_faults_are_raised_where_python_can_see_them(case_of):
    case = case_of(TEXT, "beyond")
    machine = machine_of(case, native.prepare)
    program = machine.program("beyond")
    with pytest.raises((Fault, Unsupported)):
        machine.run(program.name, Context(0))
