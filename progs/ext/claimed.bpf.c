// SPDX-License-Identifier: GPL-2.0-only
/* Programs without tags: claimed.expect.toml says what they do, and what is behind a tail call. */
#include "exceptions.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} next_program SEC(".maps");

__u32 jumps_seen;

int doubled(__u64 cookie)
{
	return cookie * 2;
}

__noinline int length(struct __sk_buff *skb)
{
	__u32 bytes = skb->len;

	barrier_var(bytes);
	return bytes;
}

SEC("tc")
int measures(struct __sk_buff *skb)
{
	int bytes = length(skb);

	barrier_var(bytes);
	if (bytes > 100)
		bpf_throw(100);
	return bytes;
}

SEC("tc")
__exception_cb(doubled)
int throws(struct __sk_buff *skb)
{
	bpf_throw(length(skb));
	return 0;
}

SEC("tc")
int jumps(struct __sk_buff *skb)
{
	jumps_seen += 1;
	bpf_tail_call(skb, &next_program, 1);
	return 7;
}

char LICENSE[] SEC("license") = "GPL";
