// SPDX-License-Identifier: GPL-2.0-only
/* Maps in maps, filled before the program runs: a missing one throws. */
#include "exceptions.h"

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
};

struct inner first SEC(".maps"), second SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} by_index SEC(".maps") = {
	.values = {[0] = &first, [2] = &second},
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} by_key SEC(".maps") = {
	.values = {[3] = &second},
};

/* 7 in `first`, 5 and 30 in `second`, which both maps of maps hold. */
SEC("tc") __success
__retval(135)
__hook("test_run")
int throws_at_empty_slot(struct __sk_buff *ctx)
{
	__u32 key = 0, zero = 0;
	void *map = bpf_map_lookup_elem(&by_index, &key);
	__u64 *value = map ? bpf_map_lookup_elem(map, &zero) : 0;
	__u32 two = 2, three = 3, one = 1;

	if (value)
		*value += 7;
	map = bpf_map_lookup_elem(&by_index, &two);
	value = map ? bpf_map_lookup_elem(map, &zero) : 0;
	if (value)
		*value += 5;
	map = bpf_map_lookup_elem(&by_key, &three);
	value = map ? bpf_map_lookup_elem(map, &zero) : 0;
	if (value)
		*value += 30;
	map = bpf_map_lookup_elem(&by_index, &one);
	if (!map)
		bpf_throw(value ? 100 + *value : 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
