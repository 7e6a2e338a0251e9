// SPDX-License-Identifier: GPL-2.0-only
/* No reference may be held at a throw: nobody would release it. */
#include "exceptions.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("tc") __failure
__errno(22)
__msg("Unreleased reference")
int refused(struct __sk_buff *skb)
{
	__u64 *entry = bpf_ringbuf_reserve(&events, sizeof(*entry), 0);

	if (!entry)
		return 0;
	bpf_throw(1);
	bpf_ringbuf_discard(entry, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
