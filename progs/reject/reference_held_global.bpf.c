// SPDX-License-Identifier: GPL-2.0-only
/*
 * A reference held over the call of a global function that throws: 7.3 refuses the call, kernels
 * before it let the reference leak. Only loaded, for that reason.
 */
#include "exceptions.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

__noinline int thrower(__u64 x)
{
	barrier_var(x);
	if (x > 10)
		bpf_throw(x);
	return 0;
}

SEC("tc") __failure
__errno(22)
__msg("Unreleased reference")
__on("6.12,6.18", "success")
__hook("load")
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
