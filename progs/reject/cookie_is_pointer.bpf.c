// SPDX-License-Identifier: GPL-2.0-only
/* The cookie must be a number: a pointer would leak an address. */
#include "exceptions.h"

SEC("tc") __failure
__errno(22)
__msg("R1 is not a scalar")
int refused(struct __sk_buff *skb)
{
	bpf_throw((__u64)skb);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
