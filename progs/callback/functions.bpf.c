// SPDX-License-Identifier: GPL-2.0-only
/* Callbacks that call static and global functions, as deep as the stack allows. */
#include "exceptions.h"

static __noinline __u64 square(__u64 x)
{
	barrier_var(x);
	return x * x;
}

__noinline __u64 triple(__u64 x)
{
	barrier_var(x);
	return square(x) + 2 * x;
}

#define LEVEL(n, next)                            \
	static __noinline __u64 level##n(__u64 x) \
	{                                         \
		barrier_var(x);                   \
		return next(x + 1) + 1;           \
	}
LEVEL(6, square)
LEVEL(5, level6)
LEVEL(4, level5)
LEVEL(3, level4)
LEVEL(2, level3)
LEVEL(1, level2)

int calls_static(__u64 cookie)
{
	return square(cookie) + 1;
}

int calls_global(__u64 cookie)
{
	return triple(cookie) + 1;
}

int calls_deep(__u64 cookie)
{
	return level1(cookie);
}

static __noinline int thrower(__u64 cookie)
{
	barrier_var(cookie);
	bpf_throw(square(cookie));
	return 0;
}

#define CALLBACK(name, cb, value)       \
	SEC("tc") __success             \
	__retval(value)                 \
	__hook("test_run")              \
	__exception_cb(cb)              \
	int name(struct __sk_buff *skb) \
	{                               \
		return thrower(3);      \
	}
CALLBACK(static_function, calls_static, 82)
CALLBACK(global_function, calls_global, 100)
CALLBACK(eight_frames, calls_deep, 231)

char LICENSE[] SEC("license") = "GPL";
