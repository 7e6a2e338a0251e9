// SPDX-License-Identifier: GPL-2.0-only
/* A global function without a value that throws: only since 7.3 may a global function be void. */
#include "exceptions.h"

__u32 checked;

__noinline void check(__u32 len)
{
	barrier_var(len);
	checked++;
	if (len > 200)
		bpf_throw(30);
}

SEC("tc") __success
__hook("test_run")
__global_is(checked, 1)
__input(small, "eth ipv4 udp payload=18")
__retval_of(small, 3)
__input(large, "eth ipv4 udp payload=400")
__retval_of(large, 30)
__on("6.12,6.18", "failure")
__on("6.12,6.18", "errno=22")
__on("6.12,6.18", "msg=1=doesn't return scalar")
int void_global(struct __sk_buff *skb)
{
	check(skb->len);
	return 3;
}

char LICENSE[] SEC("license") = "GPL";
