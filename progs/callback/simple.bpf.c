// SPDX-License-Identifier: GPL-2.0-only
/* Custom callbacks: a constant, the cookie, a function of it, the upper half of it. */
#include "exceptions.h"

int constant(__u64 cookie)
{
	return 77;
}

int identity(__u64 cookie)
{
	return cookie;
}

int tenfold(__u64 cookie)
{
	return cookie * 10 + 1;
}

int upper_half(__u64 cookie)
{
	return cookie >> 32;
}

static __noinline int thrower(__u64 cookie)
{
	barrier_var(cookie);
	bpf_throw(cookie);
	return 0;
}

#define CALLBACK(name, cb, cookie, value)   \
	SEC("tc")                           \
	__success                           \
	__retval(value)                     \
	__hook("test_run")                  \
	__exception_cb(cb)                  \
	int name(struct __sk_buff *skb)     \
	{                                   \
		return thrower(cookie) + 1; \
	}
CALLBACK(returns_constant, constant, 5, 77)
CALLBACK(returns_cookie, identity, 5, 5)
CALLBACK(returns_negative, identity, -5, -5)
CALLBACK(returns_function, tenfold, 5, 51)
CALLBACK(returns_upper_half, upper_half, 0x700000005ULL, 7)

SEC("tc")
__success
__retval(3)
__hook("test_run")
__exception_cb(constant)
int never_throws(struct __sk_buff *skb)
{
	return 3;
}

char LICENSE[] SEC("license") = "GPL";
