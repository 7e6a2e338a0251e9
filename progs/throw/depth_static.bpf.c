// SPDX-License-Identifier: GPL-2.0-only
/* A throw one to seven static functions below main: the deepest stack all kernels allow. */
#include "exceptions.h"

static __noinline int level1(int x)
{
	barrier_var(x);
	bpf_throw(x);
	return x;
}

/* The sum after the call keeps each frame alive until its callee returns, which it never does. */
#define LEVEL(n, next)                         \
	static __noinline int level##n(int x)  \
	{                                      \
		barrier_var(x);                \
		return level##next(x + n) + n; \
	}
LEVEL(2, 1)
LEVEL(3, 2)
LEVEL(4, 3)
LEVEL(5, 4)
LEVEL(6, 5)
LEVEL(7, 6)

#define DEPTH(n, value)                       \
	SEC("tc")                             \
	__success                             \
	__retval(value)                       \
	__hook("test_run")                    \
	int static_##n(struct __sk_buff *skb) \
	{                                     \
		return level##n(100) + 1;     \
	}
DEPTH(1, 100)
DEPTH(2, 102)
DEPTH(3, 105)
DEPTH(4, 109)
DEPTH(5, 114)
DEPTH(6, 120)
DEPTH(7, 127)

char LICENSE[] SEC("license") = "GPL";
