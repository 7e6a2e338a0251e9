// SPDX-License-Identifier: GPL-2.0-only
/* No lock may be held at a throw. */
#include "exceptions.h"

struct guarded {
	struct bpf_spin_lock lock;
	__u32 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guarded);
} table SEC(".maps");

SEC("tc") __failure
__errno(22)
__msg("function calls are not allowed while holding a lock")
int refused(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct guarded *guarded = bpf_map_lookup_elem(&table, &key);

	if (!guarded)
		return 0;
	bpf_spin_lock(&guarded->lock);
	bpf_throw(1);
	bpf_spin_unlock(&guarded->lock);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
