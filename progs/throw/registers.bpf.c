// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every function on the way down changes all callee-saved registers, and so does the callback.
 * Those of the kernel must be back when the program returns: three runs in a row show it.
 */
#include "exceptions.h"

__u64 levels;

#define CLOBBER(value)                                                             \
	asm volatile("r6 = %[v]; r7 = %[v]; r8 = %[v]; r9 = %[v]" ::[v] "i"(value) \
		     : "r6", "r7", "r8", "r9")

static __noinline int third(__u64 cookie)
{
	CLOBBER(0x3333);
	levels = levels << 8 | 3;
	bpf_throw(cookie);
	return 3;
}

__noinline int second(__u64 cookie)
{
	CLOBBER(0x2222);
	levels = levels << 8 | 2;
	return third(cookie + 1) + 2;
}

static __noinline int first(__u64 cookie)
{
	CLOBBER(0x1111);
	levels = levels << 8 | 1;
	return second(cookie + 1) + 1;
}

int clobbers_too(__u64 cookie)
{
	CLOBBER(0x4444);
	levels = levels << 8 | 4;
	return cookie + 1;
}

SEC("tc") __success
__retval(17)
__repeat(3)
__hook("test_run")
__global_is(levels, 0x010203010203)
int default_callback(struct __sk_buff *skb)
{
	levels = levels & 0xffffff;
	CLOBBER(0x5555);
	return first(15) + 1;
}

SEC("tc") __success
__retval(18)
__repeat(3)
__hook("test_run")
__exception_cb(clobbers_too)
__global_is(levels, 0x0102030401020304)
int custom_callback(struct __sk_buff *skb)
{
	CLOBBER(0x5555);
	return first(15) + 1;
}

char LICENSE[] SEC("license") = "GPL";
