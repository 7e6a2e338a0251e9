// SPDX-License-Identifier: GPL-2.0-only
/* The access of assert/access.bpf.c without its assertion. */
#include "exceptions.h"

__u32 table[8];

SEC("tc") __failure
__errno(13)
__msg("R2 unbounded memory access")
int refused(struct __sk_buff *skb)
{
	__u64 index = skb->len;

	return table[index];
}

char LICENSE[] SEC("license") = "GPL";
