// SPDX-License-Identifier: GPL-2.0-only
/* The exception callback must have a value. */
#include "exceptions.h"

void callback(__u64 cookie)
{
	barrier_var(cookie);
}

SEC("tc") __failure
__errno(22)
__msg("doesn't return scalar")
__on("7.3", "msg=1=exception cb cannot return void")
__exception_cb(callback)
int refused(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
