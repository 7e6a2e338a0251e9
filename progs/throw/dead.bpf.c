// SPDX-License-Identifier: GPL-2.0-only
/* Throws that are never reached, and code behind a throw that the verifier never looks at. */
#include "exceptions.h"

const volatile int enabled = 0;
int reached;

SEC("tc") __success
__hook("test_run")
__retval(9)
int in_dead_branch(struct __sk_buff *skb)
{
	if (enabled)
		bpf_throw(8);
	return 9;
}

static __noinline int dead_and_alive(int value)
{
	barrier_var(value);
	if (enabled)
		bpf_throw(7);
	bpf_throw(value);
	reached = 1;
	return 0;
}

SEC("tc") __success
__hook("test_run")
__retval(10)
__global_is(reached, 0)
int dead_before_live(struct __sk_buff *skb)
{
	return dead_and_alive(10);
}

SEC("tc") __success
__hook("test_run")
__retval(11)
int garbage_behind(struct __sk_buff *skb)
{
	bpf_throw(11);
	/* A register that nobody set, used as an address: refused everywhere but here. */
	asm volatile("r1 = *(u64 *)(r9 + 0)" ::: "r1");
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
