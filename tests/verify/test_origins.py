# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Why a register is not what an instruction needs: where it came from, and what became of it."""

import pytest

from harness.bpf.elf import read_object
from harness.verify.predict import predict

HEAD = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
  __type(value, long); } map SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } records SEC(".maps");
#define DATA(skb) ((char *)(long)(skb)->data)
#define END(skb) ((char *)(long)(skb)->data_end)
"""
# name -> (C, words of the reason, words of the remedy)
CASES = {
    "may be NULL": (
        """SEC("tc") int entry(struct __sk_buff *skb) {
	int key = skb->len;
	long *value = bpf_map_lookup_elem(&map, &key);
	return *value;
}""",
        "what bpf_map_lookup_elem() returned at instruction",
        "compare it with NULL",
    ),
    "may be NULL, through a function and the stack": (
        """static __noinline long *find(int key) {
	volatile int copy = key;
	return bpf_map_lookup_elem(&map, (void *)&copy);
}
SEC("tc") int entry(struct __sk_buff *skb) {
	long *volatile kept = find(skb->len);
	bpf_ktime_get_ns();
	return *kept;
}""",
        "what bpf_map_lookup_elem() returned at instruction",
        "compare it with NULL",
    ),
    "field that may be NULL": (
        'SEC("tc") int entry(struct __sk_buff *skb) { return skb->sk->family; }',
        "a pointer that instruction 0 loaded",
        "compare it with NULL",
    ),
    "packet moved by a helper": (
        """SEC("tc") int entry(struct __sk_buff *skb) {
	char *data = DATA(skb);
	if (data + 14 > END(skb) || bpf_skb_pull_data(skb, 20))
		return 0;
	return data[13];
}""",
        "pointed into the packet until bpf_skb_pull_data() at instruction",
        "load data and data_end from the context again",
    ),
    "packet moved below": (
        """__noinline int moves(struct __sk_buff *skb) { return bpf_skb_pull_data(skb, 20); }
SEC("tc") int entry(struct __sk_buff *skb) {
	char *data = DATA(skb) + 4;
	if (data + 14 > END(skb) || moves(skb))
		return 0;
	return data[13];
}""",
        "pointed into the packet until moves() at instruction",
        "load data and data_end from the context again",
    ),
    "given away": (
        """SEC("tc") int entry(struct __sk_buff *skb) {
	long *record = bpf_ringbuf_reserve(&records, 8, 0);
	if (!record)
		return 0;
	bpf_ringbuf_submit(record, 0);
	return *record;
}""",
        "what bpf_ringbuf_reserve() returned at instruction",
        "do not use it after that",
    ),
    "a number from a map": (
        """SEC("tc") int entry(struct __sk_buff *skb) {
	int key = 0;
	char **value = bpf_map_lookup_elem(&map, &key);
	return value ? **value : 0;
}""",
        "a number that instruction",
        "",
    ),
    "lost in a call": (
        """SEC("tc") int entry(struct __sk_buff *skb) {
	asm volatile("r2 = 1\\n call 5\\n r0 = r2" ::: "r0", "r1", "r2", "r3", "r4", "r5");
	return 0;
}""",
        "R2 has no value since the call of bpf_ktime_get_ns() at instruction",
        "behind the call",
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("series", ["6.12", "7.3"])
def test_reason_goes_back_to_where_it_began(compiled, name, series):
    text, why, fix = CASES[name]
    found = predict(read_object(compiled(HEAD + text)), "entry", series)
    assert found.verdict == "reject", found
    assert why in found.why
    assert fix in found.fix
