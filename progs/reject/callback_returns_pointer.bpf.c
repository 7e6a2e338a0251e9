// SPDX-License-Identifier: GPL-2.0-only
/* The value of the exception callback must be a number. */
#include "exceptions.h"

void *callback(__u64 cookie)
{
	return (void *)cookie;
}

SEC("tc") __failure
__errno(22)
__msg("doesn't return scalar")
__on("7.3", "errno=95")
__on("7.3", "msg=1=return value not void or scalar")
__exception_cb(callback)
int refused(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
