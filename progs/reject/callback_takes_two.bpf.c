// SPDX-License-Identifier: GPL-2.0-only
/* The exception callback takes one integer: not two. */
#include "exceptions.h"

int callback(__u64 cookie, __u64 other)
{
	return cookie + other;
}

SEC("tc") __failure
__errno(22)
__msg("exception cb only supports single integer argument")
__exception_cb(callback)
int refused(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
