// SPDX-License-Identifier: GPL-2.0-only
/* Nor may a function throw while its caller holds a reference. */
#include "exceptions.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

static __noinline int thrower(__u64 x)
{
	barrier_var(x);
	if (x > 10)
		bpf_throw(x);
	return 0;
}

SEC("tc") __failure
__errno(22)
__msg("Unreleased reference")
int refused(struct __sk_buff *skb)
{
	__u64 *entry = bpf_ringbuf_reserve(&events, sizeof(*entry), 0);
	int value;

	if (!entry)
		return 0;
	value = thrower(skb->len);
	bpf_ringbuf_discard(entry, 0);
	return value;
}

char LICENSE[] SEC("license") = "GPL";
