// SPDX-License-Identifier: GPL-2.0-only
/* The callback of a helper may not throw, since the helper is on the stack. */
#include "exceptions.h"

static int body(__u32 index, __u64 *limit)
{
	if (index > *limit)
		bpf_throw(index);
	return 0;
}

SEC("tc") __failure
__errno(22)
__msg("bpf_throw kfunc (insn {{[0-9]+}}) cannot be called from callback subprog")
int refused(struct __sk_buff *skb)
{
	__u64 limit = 5;

	bpf_loop(10, body, &limit, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
