// SPDX-License-Identifier: GPL-2.0-only
/* What was written before the throw stays written: globals at every level; runs add up. */
#include "exceptions.h"

__u32 in_main, in_static, in_global, too_late;

__noinline int count_global(int x)
{
	in_global += x;
	bpf_throw(in_global);
	too_late++;
	return x;
}

static __noinline int count_static(int x)
{
	in_static += x;
	x = count_global(x);
	too_late++;
	return x;
}

SEC("tc") __success
__retval(9)
__repeat(3)
__hook("test_run")
__global_is(in_main, 9)
__global_is(in_static, 9)
__global_is(in_global, 9)
__global_is(too_late, 0)
int counts(struct __sk_buff *skb)
{
	in_main += 3;
	return count_static(3);
}

SEC("tc") __success
__retval(5)
__repeat(5)
__hook("test_run")
__global_is(in_main, 5)
int same_value(struct __sk_buff *skb)
{
	in_main++;
	bpf_throw(5);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
