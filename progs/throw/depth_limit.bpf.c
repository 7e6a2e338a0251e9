// SPDX-License-Identifier: GPL-2.0-only
/* Eight static functions below main: one too many for 6.12 and 6.18, fine since 7.3. */
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

SEC("tc")
__success
__retval(135)
__hook("test_run")
__on("6.12,6.18", "failure")
__on("6.12,6.18", "errno=7")
__on("6.12,6.18", "msg=1=the call stack of {{[0-9]+}} frames is too deep")
int static_8(struct __sk_buff *skb)
{
	return level8(100) + 1;
}

char LICENSE[] SEC("license") = "GPL";
