// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where net.core.bpf_jit_enable is 0, nothing throws: the interpreter calls no kernel functions.
 * Cases for machines that are set so; elsewhere they are unsupported.
 */
#include "verdict.h"

static __noinline int throws(__u64 x)
{
	barrier_var(x);
	if (x > 7)
		bpf_throw(x);
	return 0;
}

REFUSED(524, "JIT is required for calling kernel function")
__needs("no-jit")
int main_throws(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

REFUSED(524, "JIT is required for calling kernel function")
__needs("no-jit")
int static_throws(struct __sk_buff *skb)
{
	return throws(skb->len);
}

/* Refused for what it holds, not for what it does. */
REFUSED(524, "JIT is required for calling kernel function")
__needs("no-jit")
int throws_never(struct __sk_buff *skb)
{
	__u64 zero = 0;

	barrier_var(zero);
	if (zero)
		bpf_throw(1);
	return 0;
}

NEAR_MISS(64)
__needs("no-jit")
int returns(struct __sk_buff *skb)
{
	return skb->len;
}

char LICENSE[] SEC("license") = "GPL";
