// SPDX-License-Identifier: GPL-2.0-only
/* Stacks of all frames down to the throw count together, up to 512 bytes. */
#include "exceptions.h"

/* The barrier keeps clang from giving up what is not used of an array. */
#define use_all_of(array) asm volatile("" ::"r"(array) : "memory")

static __noinline int thrower(__u64 x)
{
	__u64 slots[40];

	use_all_of(slots);
	slots[0] = x;
	bpf_throw(slots[0]);
	return slots[0];
}

SEC("tc") __failure
__errno(13)
__msg("combined stack size of 2 calls is")
int refused(struct __sk_buff *skb)
{
	__u64 slots[40];

	use_all_of(slots);
	slots[0] = skb->len;
	return thrower(slots[0]) + slots[0];
}

char LICENSE[] SEC("license") = "GPL";
