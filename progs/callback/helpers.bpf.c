// SPDX-License-Identifier: GPL-2.0-only
/* Callbacks that call more helpers: over all elements, per CPU, strings, under a lock. */
#include "exceptions.h"

struct guarded {
	struct bpf_spin_lock lock;
	__u32 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guarded);
} locked SEC(".maps");

static long add(void *map, __u32 *key, __u64 *value, __u64 *sum)
{
	*value += *key;
	*sum += *value;
	return 0;
}

int sums(__u64 cookie)
{
	bpf_for_each_map_elem(&numbers, add, &cookie, 0);
	return cookie;
}

int counts(__u64 cookie)
{
	__u32 key = bpf_get_smp_processor_id();
	__u64 *slot = bpf_map_lookup_elem(&per_cpu, &key);

	if (!slot)
		return -1;
	*slot += cookie;
	return *slot;
}

int compares(__u64 cookie)
{
	char text[4] = "abc";

	text[2] = cookie;
	return bpf_strncmp(text, sizeof(text), "abc") ? 1 : 2;
}

int locks(__u64 cookie)
{
	__u32 key = 0;
	struct guarded *guarded = bpf_map_lookup_elem(&locked, &key);

	if (!guarded)
		return -1;
	bpf_spin_lock(&guarded->lock);
	guarded->value += cookie;
	bpf_spin_unlock(&guarded->lock);
	return guarded->value;
}

#define CALLBACK(name, cb, cookie, value) \
	SEC("tc") __success               \
	__retval(value)                   \
	__repeat(2)                       \
	__hook("test_run")                \
	__exception_cb(cb)                \
	int name(struct __sk_buff *skb)   \
	{                                 \
		bpf_throw(cookie);        \
		return 0;                 \
	}
/* First run: 0 + 1 + 2 + 3; second run: twice that. */
CALLBACK(for_each_element, sums, 100, 112)
CALLBACK(per_cpu_value, counts, 21, 42)
CALLBACK(string_differs, compares, 'd', 1)
CALLBACK(string_equal, compares, 'c', 2)
CALLBACK(under_a_lock, locks, 50, 100)

char LICENSE[] SEC("license") = "GPL";
