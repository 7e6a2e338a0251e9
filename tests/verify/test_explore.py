# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Path exploration: what each rule refuses, in whose words, and a program beside it that may load.

Words and errnos are those of 6.12.107, 6.18.15 and 7.3.4, where random programs of the same kind
were loaded to compare; rules: kernel/bpf/verifier.c.
"""

import time

import pytest

from harness.bpf import asm, writeelf
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.series import SERIES
from harness.sim.semantics import profile
from harness.verify.explore import explore
from harness.verify.prediction import NotModelled, Rejection, Subject

BUDGET = 20_000
ACCEPT = ("", 0)


def loop_to(limit):
    """A loop that throws once at most, in its body."""
    return f"""
        r6 = *(u32 *)(r1 +0)
        r7 = 0
    again: if r6 != r7 goto on
        r1 = 7
        call bpf_throw
    on: r7 += 1
        if r7 < {limit} goto again
        r0 = 0
        exit
    """


# what happens -> (text of a tc program, {series: (words, errno)}; a series that is not there: as
# the one before it)
ASM = {
    "nobody wrote it": ("r0 = r5\nexit", {"6.12": ("R5 !read_ok", 13)}),
    "no value": ("exit", {"6.12": ("R0 !read_ok", 13)}),
    "frame pointer": ("r10 = 1\nr0 = 0\nexit", {"6.12": ("frame pointer is read only", 13)}),
    "scalar as pointer": (
        "r1 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r1 +0)\nexit",
        {"6.12": ("R1 invalid mem access 'scalar'", 13)},
    ),
    "context field": ("r0 = *(u32 *)(r1 +8)\nexit", {"6.12": ACCEPT}),
    "no context field": (
        "r0 = *(u64 *)(r1 +8)\nexit",
        {"6.12": ("invalid bpf_context access off=8 size=8", 13)},
    ),
    "moved context": (
        "r1 += 8\nr0 = *(u32 *)(r1 +0)\nexit",
        {"6.12": ("dereference of modified ctx ptr R1 off=8 disallowed", 13)},
    ),
    "helper writes above the frame": (
        "r2 = 0\nr3 = r10\nr3 += -64\nr4 = 65\ncall bpf_skb_load_bytes\nr0 = 0\nexit",
        {
            "6.12": ("invalid indirect access to stack R3 off=-64 size=65", 22),
            "6.18": ("invalid write to stack R3 off=-64 size=65", 22),
        },
    ),
    "below the stack": (
        "*(u64 *)(r10 -520) = 1\nr0 = 0\nexit",
        {"6.12": ("invalid write to stack R10 off=-520 size=8", 13)},
    ),
    "all of the stack": ("*(u64 *)(r10 -512) = 1\nr0 = 0\nexit", {"6.12": ACCEPT}),
    "half a pointer": (
        "*(u64 *)(r10 -8) = r1\nr0 = *(u32 *)(r10 -8)\nexit",
        {"6.12": ("invalid size of register fill", 13)},
    ),
    "a pointer comes back": (
        "*(u64 *)(r10 -8) = r1\nr1 = *(u64 *)(r10 -8)\nr0 = *(u32 *)(r1 +0)\nexit",
        {"6.12": ACCEPT},
    ),
    "packet unchecked": (
        "r1 = *(u32 *)(r1 +76)\nr0 = *(u8 *)(r1 +0)\nexit",
        {"6.12": ("invalid access to packet, off=0 size=1", 13)},
    ),
    "packet checked by a throw": (
        """
        r6 = *(u32 *)(r1 +76)
        r2 = *(u32 *)(r1 +80)
        r3 = r6
        r3 += 4
        if r3 <= r2 goto inside
        r1 = 9
        call bpf_throw
    inside: r0 = *(u8 *)(r6 +3)
        exit
        """,
        {"6.12": ACCEPT},
    ),
    "packet checked too short": (
        """
        r6 = *(u32 *)(r1 +76)
        r2 = *(u32 *)(r1 +80)
        r3 = r6
        r3 += 4
        if r3 <= r2 goto inside
        r1 = 9
        call bpf_throw
    inside: r0 = *(u8 *)(r6 +4)
        exit
        """,
        {"6.12": ("invalid access to packet, off=4 size=1", 13)},
    ),
    "what is behind a throw": ("r1 = 1\ncall bpf_throw\nr0 = r9\nexit", {"6.12": ACCEPT}),
    "pointer as cookie": ("call bpf_throw\nr0 = 0\nexit", {"6.12": ("R1 is not a scalar", 22)}),
    "cookie that a call has taken": (
        "call bpf_get_prandom_u32\ncall bpf_throw\nr0 = 0\nexit",
        {"6.12": ("R1 is not a scalar", 22), "7.3": ("variable ? access var_off=", 13)},
    ),
    "RCU at a throw": (
        "call bpf_rcu_read_lock\nr1 = 1\ncall bpf_throw\nr0 = 0\nexit",
        {
            "6.12": ("bpf_rcu_read_unlock is missing", 22),
            "6.18": (
                "BPF_EXIT instruction in main prog cannot be used inside "
                "bpf_rcu_read_lock-ed region", 22),
            "7.3": ("bpf_throw cannot be used inside bpf_rcu_read_lock-ed region", 22),
        },
    ),
    "preemption off at a throw in a function": (
        """
        call bpf_preempt_disable
        call thrower
        call bpf_preempt_enable
        r0 = 0
        exit
    .func thrower
        r1 = 1
        call bpf_throw
        r0 = 0
        exit
        """,
        {
            "6.12": ACCEPT,
            "7.3": ("bpf_throw cannot be used inside bpf_preempt_disable-ed region", 22),
        },
    ),
    "RCU twice": (
        "call bpf_rcu_read_lock\ncall bpf_rcu_read_lock\ncall bpf_rcu_read_unlock\n"
        "call bpf_rcu_read_unlock\nr0 = 0\nexit",
        {"6.12": ("nested rcu read lock", 22), "7.3": ACCEPT},
    ),
    "no RCU": (
        "call bpf_rcu_read_unlock\nr0 = 0\nexit", {"6.12": ("unmatched rcu read unlock", 22)}
    ),
    "throw in a loop": (
        loop_to(3), {"6.12": ACCEPT, "6.18": ("scc exit: no visit info for call chain", 14)}
    ),
    "endless loop": (
        "again: r6 = 1\nr7 = 2\nr8 = 3\nif r6 == r7 goto out\ngoto again\nout: r0 = 0\nexit",
        {"6.12": ("infinite loop detected at insn", 22)},
    ),
    "linked copies": (
        """
        r6 = *(u32 *)(r1 +0)
        r7 = r6
        if r7 > 8 goto out
        r8 = r10
        r8 += r6
        r0 = *(u8 *)(r8 -16)
        exit
    out: r0 = 0
        exit
        """,
        {"6.12": ACCEPT},
    ),
    "stack at a place unknown": (
        "r6 = *(u32 *)(r1 +0)\nr8 = r10\nr8 += r6\nr0 = *(u8 *)(r8 -16)\nexit",
        {"6.12": ("invalid unbounded variable-offset read from stack R8", 13)},
    ),
    "two pointers": (
        "r2 = r10\nr2 += r1\nr0 = 0\nexit",
        {"6.12": ("R2 pointer += pointer prohibited", 13)},
    ),
    "pointer difference": ("r2 = r10\nr2 -= r1\nr0 = r2\nexit", {"6.12": ACCEPT}),
    "stack pointer returned": (
        "call inner\nr0 = 0\nexit\n.func inner\nr0 = r10\nexit",
        {"6.12": ("cannot return stack pointer to the caller", 22)},
    ),
    "helper of another type": (
        "r2 = 0\ncall bpf_xdp_adjust_head\nr0 = 0\nexit",
        {"6.12": ("program of this type cannot use helper bpf_xdp_adjust_head#44", 22)},
    ),
    "size that may be 0": (
        "r4 = *(u32 *)(r1 +0)\nr4 &= 7\nr2 = 0\nr3 = r10\nr3 += -8\ncall bpf_skb_load_bytes\n"
        "r0 = 0\nexit",
        {"6.12": ("R4 invalid zero-sized read: u64=[0,7]", 13)},
    ),
}  # fmt: skip

MAPS = """
struct guarded { struct bpf_spin_lock lock; __u32 value; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
         __type(value, struct guarded); } table SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32);
         __type(value, __u64[4]); } words SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_DEVMAP_HASH); __uint(max_entries, 8); __type(key, __u32);
         __type(value, __u32); } devices SEC(".maps");
"""
# what happens -> (body of a tc program in C, {series: ...} as above)
C = {
    "not compared with NULL": (
        "__u32 k = 0; __u64 *v = bpf_map_lookup_elem(&words, &k); return *v;",
        {"6.12": ("R0 invalid mem access 'map_value_or_null'", 13)},
    ),
    "an index that a throw limits": (
        """__u32 k = 0, i = skb->len; __u64 *v = bpf_map_lookup_elem(&words, &k);
        if (!v) return 0;
        bpf_assert_lt(i, 4); return v[i];""",
        {"6.12": ACCEPT},
    ),
    "an index that a throw limits too late": (
        """__u32 k = 0, i = skb->len; __u64 *v = bpf_map_lookup_elem(&words, &k);
        if (!v) return 0;
        bpf_assert_le(i, 4); return v[i];""",
        {"6.12": ("invalid access to map value, value_size=32 off=32 size=8", 13)},
    ),
    "a lock at a throw": (
        """__u32 k = 0; struct guarded *g = bpf_map_lookup_elem(&table, &k);
        if (!g) return 0;
        bpf_spin_lock(&g->lock); bpf_throw(1); bpf_spin_unlock(&g->lock); return 0;""",
        {"6.12": ("function calls are not allowed while holding a lock", 22)},
    ),
    "the lock as a number": (
        """__u32 k = 0; struct guarded *g = bpf_map_lookup_elem(&table, &k);
        return g ? *(__u32 *)&g->lock : 0;""",
        {"6.12": ("bpf_spin_lock cannot be accessed directly by load/store", 13)},
    ),
    "a reference at a throw": (
        """__u64 *e = bpf_ringbuf_reserve(&events, 8, 0);
        if (!e) return 0;
        if (skb->len > 10) bpf_throw(1);
        bpf_ringbuf_discard(e, 0); return 0;""",
        {"6.12": ("Unreleased reference id=", 22)},
    ),
    "given back before": (
        """__u64 *e = bpf_ringbuf_reserve(&events, 8, 0);
        if (!e) return 0;
        bpf_ringbuf_discard(e, 0);
        bpf_throw(1); return 0;""",
        {"6.12": ACCEPT},
    ),
    "a device's entry": (
        """__u32 k = 0; __u32 *v = bpf_map_lookup_elem(&devices, &k); return v ? *v : 0;""",
        {"6.12": ACCEPT},
    ),
    "a device's entry, written": (
        """__u32 k = 0; __u32 *v = bpf_map_lookup_elem(&devices, &k);
        if (v) *v = 1;
        return 0;""",
        {"6.12": ("write into map forbidden, value_size=4 off=0 size=4", 13)},
    ),
    "a device's entry, replaced": (
        """__u32 k = 0; return bpf_map_update_elem(&devices, &k, &k, 0);""",
        {"6.12": ("write into map forbidden", 13)},
    ),
    "as much as the packet has": (
        """__u64 *e = bpf_ringbuf_reserve(&events, skb->len, 0);
        if (e) bpf_ringbuf_discard(e, 0);
        return 0;""",
        {"6.12": ("R2 is not a known constant'", 13), "7.3": ("R2 is not a const", 22)},
    ),
    "a tail call through a map that is none": (
        "bpf_tail_call(skb, &words, 1); return 0;",
        {"6.12": ("kernel subsystem misconfigured verifier", 22),
         "6.18": ("expected prog array map for tail call", 22)},
    ),
    "beyond what was reserved": (
        """__u64 *e = bpf_ringbuf_reserve(&events, 8, 0);
        if (!e) return 0;
        e[1] = 1; bpf_ringbuf_submit(e, 0); return 0;""",
        {"6.12": ("invalid access to memory, mem_size=8 off=8 size=8", 13)},
    ),
}  # fmt: skip


def outcome(subject, budget=BUDGET):
    try:
        explore(subject, budget)
    except Rejection as error:
        return error.message, error.errno
    return ACCEPT


def wanted(table, series):
    """The entry of the nearest series at or before."""
    return [table[s] for s in SERIES[: SERIES.index(series) + 1] if s in table][-1]


def subject_of(text, series, path):
    program = asm.assemble(f".section tc\n.func main global\n{text}\n")
    file = path / "p.bpf.o"
    file.write_bytes(writeelf.write_object(program, "GPL"))
    obj = read_object(file)
    return Subject(obj, link(obj, obj.programs[0].name), profile(series))


def check(found, expected):
    words, errno = expected
    assert found[1] == errno, found
    assert found[0].startswith(words) if words else not found[0]


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", ASM)
def test_refuses_in_the_words_of_the_series(name, series, tmp_path):
    text, table = ASM[name]
    check(outcome(subject_of(text, series, tmp_path)), wanted(table, series))


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", C)
def test_refuses_what_is_written_in_c(name, series, subject_of_c):
    body, table = C[name]
    text = MAPS + 'SEC("tc") int main_program(struct __sk_buff *skb) { ' + body + " }\n"
    check(outcome(subject_of_c(text, series)), wanted(table, series))


def test_gives_up_when_its_budget_is_used_up(tmp_path):
    text = "r6 = 0\nagain: r6 += 1\nif r6 < 100000 goto again\nr0 = 0\nexit"
    with pytest.raises(NotModelled, match="budget of 1000 instructions"):
        explore(subject_of(text, "6.12", tmp_path), 1000)


def test_says_which_branches_led_to_a_refusal(tmp_path):
    text = "r6 = *(u32 *)(r1 +0)\nif r6 > 5 goto far\nr0 = 0\nexit\nfar: r0 = r9\nexit"
    with pytest.raises(Rejection) as caught:
        explore(subject_of(text, "6.12", tmp_path), BUDGET)
    assert [step.text for step in caught.value.steps[:-1]] == ["jump taken"]
    assert caught.value.pc == 4


def test_keeps_registers_of_each_instruction_when_asked(tmp_path):
    text = "r6 = *(u32 *)(r1 +0)\nif r6 > 5 goto far\nr0 = 0\nexit\nfar: r0 = 1\nexit"
    found = explore(subject_of(text, "6.12", tmp_path), BUDGET, record=True)
    (near,), (far,) = found.states[2], found.states[4]
    assert (near[6].num.umin, near[6].num.umax) == (0, 5)
    assert (far[6].num.umin, far[6].num.umax) == (6, 0xFFFFFFFF)


def test_explores_a_thousand_instructions_in_time(tmp_path):
    text = (
        "r6 = 0\nr7 = 0\nagain: r7 += r6\nr7 &= 255\nr6 += 1\nif r6 < 250 goto again\nr0 = 0\nexit"
    )
    subject = subject_of(text, "7.3", tmp_path)
    best = min(_time(subject) for _ in range(3))
    assert best < 0.25  # 50 ms on a machine that does nothing else


def _time(subject):
    started = time.process_time()
    assert explore(subject, BUDGET).insns > 1000
    return time.process_time() - started
