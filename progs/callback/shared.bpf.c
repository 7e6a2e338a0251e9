// SPDX-License-Identifier: GPL-2.0-only
/* One callback for several programs, one throwing function below programs with other callbacks. */
#include "exceptions.h"

int calls;

int ours(__u64 cookie)
{
	calls++;
	return cookie + 1000;
}

int theirs(__u64 cookie)
{
	return cookie + 2000;
}

__noinline int thrower(int cookie)
{
	barrier_var(cookie);
	bpf_throw(cookie);
	return 0;
}

SEC("tc") __success
__retval(1001)
__hook("test_run")
__exception_cb(ours)
__global_is(calls, 1)
int first(struct __sk_buff *skb)
{
	return thrower(1);
}

SEC("xdp") __success
__retval(1002)
__hook("test_run")
__exception_cb(ours)
int second(struct xdp_md *ctx)
{
	return thrower(2);
}

SEC("xdp") __success
__retval(2003)
__hook("test_run")
__exception_cb(theirs)
__global_is(calls, 0)
int third(struct xdp_md *ctx)
{
	return thrower(3);
}

SEC("tc") __success
__retval(4)
__hook("test_run")
int by_default(struct __sk_buff *skb)
{
	return thrower(4);
}

char LICENSE[] SEC("license") = "GPL";
