// SPDX-License-Identifier: GPL-2.0-only
/* Nor may a function that such a callback calls, even where main calls it too. */
#include "exceptions.h"

static __noinline int shared(__u64 x)
{
	barrier_var(x);
	if (x > 7)
		bpf_throw(x);
	return 0;
}

static int body(__u32 index, __u64 *limit)
{
	return shared(index + *limit);
}

SEC("tc") __failure
__errno(22)
__msg("bpf_throw kfunc (insn {{[0-9]+}}) cannot be called from callback subprog")
int refused(struct __sk_buff *skb)
{
	__u64 limit = 5;

	bpf_loop(10, body, &limit, 0);
	return shared(skb->len);
}

char LICENSE[] SEC("license") = "GPL";
