// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bug D: with a private stack (x86-64, 64 bytes or more) calls have r9 pushed around them, which
 * the walk over the stack does not know: the callback takes the kernel's registers from one place
 * too low, and the kernel goes on with them.
 */
#include "exceptions.h"

#define CRASHES            \
	__success          \
	__hook("test_run") \
	__crashes("bug D: the kernel's registers are wrong")

static __noinline int thrower(__u8 *used, __u64 cookie)
{
	barrier_var(cookie);
	used[3]++;
	bpf_throw(cookie);
	return 0;
}

/* bpf_throw is allowed here from 7.3 on. */
SEC("?raw_tp") CRASHES __retval(7)
__on("6.12,6.18", "failure")
__on("6.12,6.18", "msg=1=calling kernel function bpf_throw is not allowed")
int tracepoint(__u64 *ctx)
{
	__u8 used[128] = {};

	return thrower(used, 7);
}

char LICENSE[] SEC("license") = "GPL";
