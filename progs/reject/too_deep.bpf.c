// SPDX-License-Identifier: GPL-2.0-only
/* Sixteen static functions below main are too many on every kernel. */
#include "exceptions.h"

static __noinline int level1(int x)
{
	barrier_var(x);
	bpf_throw(x);
	return x;
}

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
LEVEL(8, 7)
LEVEL(9, 8)
LEVEL(10, 9)
LEVEL(11, 10)
LEVEL(12, 11)
LEVEL(13, 12)
LEVEL(14, 13)
LEVEL(15, 14)
LEVEL(16, 15)

SEC("tc") __failure
__errno(7)
__msg("the call stack of {{[0-9]+}} frames is too deep")
int refused(struct __sk_buff *skb)
{
	return level16(100) + 1;
}

char LICENSE[] SEC("license") = "GPL";
