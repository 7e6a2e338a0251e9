// SPDX-License-Identifier: GPL-2.0-only
/* Twelve global functions below main: 7.3 counts each from the beginning, the others do not. */
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
LEVEL(8, 7)
LEVEL(9, 8)
LEVEL(10, 9)
LEVEL(11, 10)
LEVEL(12, 11)

SEC("tc") __success
__retval(277)
__hook("test_run")
__on("6.12,6.18", "failure")
__on("6.12,6.18", "errno=7")
__on("6.12,6.18", "msg=1=the call stack of {{[0-9]+}} frames is too deep")
int global_12(struct __sk_buff *skb)
{
	return global12(200) + 1;
}

char LICENSE[] SEC("license") = "GPL";
