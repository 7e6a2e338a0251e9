// SPDX-License-Identifier: GPL-2.0-only
/* A freplace program in place of a function that an exception callback calls: it may throw. */
#include "exceptions.h"

__noinline int replaced(int x)
{
	barrier_var(x);
	return x + 1;
}

int callback(__u64 cookie)
{
	return replaced(cookie) + 100;
}

SEC("?freplace/replaced") __target
int throws(int x)
{
	bpf_throw(x * 2);
	return 0;
}

SEC("tc") __success
__retval(116)
__hook("test_run")
__exception_cb(callback)
int not_replaced(struct __sk_buff *skb)
{
	bpf_throw(15);
	return 0;
}

SEC("tc") __success
__retval(130)
__hook("test_run")
__with(throws)
__exception_cb(callback)
int replacement_throws(struct __sk_buff *skb)
{
	bpf_throw(15);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
