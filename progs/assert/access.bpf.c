// SPDX-License-Identifier: GPL-2.0-only
/* Accesses that verify only because the other path threw: array index, map value, packet. */
#include "exceptions.h"

struct entry {
	__u32 slots[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct entry);
} entries SEC(".maps");

__u32 table[8] = {10, 11, 12, 13, 14, 15, 16, 17};

static __noinline __u64 load(struct __sk_buff *skb, __u32 offset)
{
	__u8 byte = 0;

	bpf_assert_with(!bpf_skb_load_bytes(skb, offset, &byte, 1), 99);
	return byte;
}

SEC("tc") __success
__hook("test_run")
__input(inside, "eth ethertype=0x88b5 hex=07")
__retval_of(inside, 17)
__input(outside, "eth ethertype=0x88b5 hex=08")
__retval_of(outside, 50)
int array_index(struct __sk_buff *skb)
{
	__u64 index = load(skb, 14);

	bpf_assert_lt_with(index, 8, 50);
	return table[index];
}

SEC("tc") __success
__hook("test_run")
__input(inside, "eth ethertype=0x88b5 hex=0f")
__retval_of(inside, 1)
__input(outside, "eth ethertype=0x88b5 hex=10")
__retval_of(outside, 51)
int map_value(struct __sk_buff *skb)
{
	__u64 index = load(skb, 14);
	__u32 key = 0;
	struct entry *entry = bpf_map_lookup_elem(&entries, &key);

	bpf_assert_with(entry, 98);
	bpf_assert_range_with(index, 0, 15, 51);
	entry->slots[index] += 1;
	return entry->slots[index];
}

SEC("tc") __success
__hook("test_run")
__input(inside, "eth ethertype=0x88b5 hex=fd00")
__retval_of(inside, 12)
__input(above, "eth ethertype=0x88b5 hex=0400")
__retval_of(above, 52)
__input(below, "eth ethertype=0x88b5 hex=fa00")
__retval_of(below, 52)
int signed_index(struct __sk_buff *skb)
{
	__s64 index = (__s8)load(skb, 14);

	bpf_assert_range_with(index, -5, 2, 52);
	index += 5;
	barrier_var(index);
	return table[index];
}

SEC("tc") __success
__hook("test_run")
__input(inside, "eth ethertype=0x88b5 hex=0f445566")
__retval_of(inside, 0x44)
__input(outside, "eth ethertype=0x88b5 hex=20445566")
__retval_of(outside, 53)
int packet(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 *byte = data + load(skb, 14);

	bpf_assert_with((void *)(byte + 1) <= end, 53);
	return *byte;
}

char LICENSE[] SEC("license") = "GPL";
