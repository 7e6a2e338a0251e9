// SPDX-License-Identifier: GPL-2.0-only
/* Global functions that return nothing: an assertion's natural home, and only 7.3 has them. */
#include "verdict.h"

__noinline void check(__u64 x)
{
	barrier_var(x);
	bpf_assert_with(x < 8, x);
}

static __noinline void check_static(__u64 x)
{
	barrier_var(x);
	bpf_assert_with(x < 8, x);
}

__noinline int check_with_value(__u64 x)
{
	barrier_var(x);
	bpf_assert_with(x < 8, x);
	return 0;
}

NEAR_MISS(64)
__on("6.12,6.18", "failure")
__on("6.12,6.18", "errno=22")
__on("6.12,6.18", "msg=1=Global function check() doesn't return scalar")
int refused(struct __sk_buff *skb)
{
	check(skb->len);
	return 0;
}

NEAR_MISS(64)
int static_without_value(struct __sk_buff *skb)
{
	check_static(skb->len);
	return 0;
}

NEAR_MISS(64)
int value_unused(struct __sk_buff *skb)
{
	check_with_value(skb->len);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
