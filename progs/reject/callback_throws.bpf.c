// SPDX-License-Identifier: GPL-2.0-only
/* An exception callback may not throw, here from a function that it calls. */
#include "exceptions.h"

static __noinline int helper(__u64 x)
{
	barrier_var(x);
	bpf_throw(x);
	return 0;
}

int callback(__u64 cookie)
{
	return helper(cookie) + 1;
}

SEC("tc") __failure
__errno(22)
__msg("bpf_throw kfunc (insn {{[0-9]+}}) cannot be called from callback subprog")
__exception_cb(callback)
int refused(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
