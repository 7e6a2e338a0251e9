// SPDX-License-Identifier: GPL-2.0-only
/* A throw in global functions, which the verifier checks one by one, and mixed with static ones. */
#include "exceptions.h"

__noinline int global1(int x)
{
	barrier_var(x);
	bpf_throw(x);
	return x;
}

#define LEVEL(n, next)                          \
	__noinline int global##n(int x)         \
	{                                       \
		barrier_var(x);                 \
		return global##next(x + n) + n; \
	}
LEVEL(2, 1)
LEVEL(3, 2)
LEVEL(4, 3)
LEVEL(5, 4)
LEVEL(6, 5)
LEVEL(7, 6)

static __noinline int between(int x)
{
	barrier_var(x);
	return global2(x + 10) + 1;
}

__noinline int above(int x)
{
	barrier_var(x);
	return between(x + 10) + 1;
}

#define DEPTH(n, value)                       \
	SEC("tc")                             \
	__success                             \
	__retval(value)                       \
	__hook("test_run")                    \
	int global_##n(struct __sk_buff *skb) \
	{                                     \
		return global##n(200) + 1;    \
	}
DEPTH(1, 200)
DEPTH(2, 202)
DEPTH(4, 209)
DEPTH(7, 227)

SEC("tc")
__success
__retval(222)
__hook("test_run")
int global_static_global(struct __sk_buff *skb)
{
	return above(200) + 1;
}

char LICENSE[] SEC("license") = "GPL";
