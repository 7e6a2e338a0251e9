// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loops and throws. A throw within a loop that clang keeps is refused by a bug since 6.17, with a
 * warning: kernel-bugs/throw_in_loop.bpf.c. These are the ways around it, and loops without an end.
 */
#include "verdict.h"

__u32 words[8];

NEAR_MISS(8)
int throw_behind_loop(struct __sk_buff *skb)
{
	__u32 found = 0;

	for (__u32 i = 0; i < 8; i++) {
		barrier_var(i);
		if (words[i & 7] == 0)
			found++;
	}
	if (found)
		bpf_throw(found);
	return 0;
}

NEAR_MISS(5)
int left_then_thrown(struct __sk_buff *skb)
{
	__u32 i;

	for (i = 0; i < 8; i++) {
		barrier_var(i);
		if (i * 13 > skb->len)
			break;
	}
	bpf_throw(i);
	return 0;
}

/* Unrolled there is no loop. */
NEAR_MISS(3)
int unrolled(struct __sk_buff *skb)
{
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < 4; i++)
		if (skb->len + i == 67)
			bpf_throw(i);
	return 9;
}

static long compares(__u32 index, __u32 *found)
{
	*found = index;
	return index * 13 > 64;
}

NEAR_MISS(5)
int by_helper(struct __sk_buff *skb)
{
	__u32 found = 0;

	bpf_loop(8, compares, &found, 0);
	bpf_throw(found);
	return 0;
}

/* No end: the verifier comes by in a state that it has seen before. */
REFUSED(22, "infinite loop detected")
int never_ends(struct __sk_buff *skb)
{
	if (skb->len > 5000)
		bpf_throw(1);
	asm volatile("1: if %[len] < 5000 goto 1b" ::[len] "r"(skb->len));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
