// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bug D where it can be looked at: who suffers is not the kernel but another BPF program. A fentry
 * program throws while four registers of its target's caller are in use.
 */
#include "exceptions.h"

/* Unknown to the verifier, else it would not look at what becomes of them. */
__u32 six = 6, seven = 7, eight = 8, nine = 9;

static __noinline int thrower(__u8 *used)
{
	barrier_var(used);
	used[3]++;
	bpf_throw(0);
	return 0;
}

SEC("?fentry/calm") __target
int throws(__u64 *ctx)
{
	__u8 used[128] = {};

	return thrower(used);
}

__noinline int calm(int x)
{
	barrier_var(x);
	return x + 1;
}

/* One bit for each register that has kept its value. */
SEC("?tc") __success
__retval(15)
__hook("test_run")
__with(throws)
__crashes("bug D: a program's registers are wrong")
int keeps(struct __sk_buff *skb)
{
	__u32 a = six, b = seven, c = eight, d = nine;

	asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
	calm(1);
	asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
	return (a == 6) | (b == 7) << 1 | (c == 8) << 2 | (d == 9) << 3;
}

char LICENSE[] SEC("license") = "GPL";
