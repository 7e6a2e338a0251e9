// SPDX-License-Identifier: GPL-2.0-only
/* The exception callback may not be called like a function. */
#include "exceptions.h"

__noinline int callback(__u64 cookie)
{
	barrier_var(cookie);
	return cookie + 1;
}

SEC("tc") __failure
__errno(22)
__msg("insn {{[0-9]+}} cannot call exception cb directly")
__exception_cb(callback)
int refused(struct __sk_buff *skb)
{
	bpf_throw(callback(3));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
