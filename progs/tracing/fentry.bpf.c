// SPDX-License-Identifier: GPL-2.0-only
/* fentry programs on functions of a program: one watches a function that throws, others throw. */
#include "exceptions.h"

__u32 hits, bodies;
__u64 argument;

__noinline int throwing(int x)
{
	barrier_var(x);
	bodies++;
	bpf_throw(x);
	return 0;
}

__noinline int calm(int x)
{
	barrier_var(x);
	bodies++;
	return x + 1;
}

SEC("?fentry/throwing") __target
int watches(__u64 *ctx)
{
	hits++;
	argument = ctx[0];
	return 0;
}

SEC("?fentry/calm") __target
int throws(__u64 *ctx)
{
	hits++;
	argument = ctx[0];
	bpf_throw(0);
	hits += 100;
	return 0;
}

SEC("tc") __success
__retval(42)
__hook("test_run")
__with(watches)
__global_is(hits, 1)
__global_is(argument, 42)
__global_is(bodies, 1)
int watched(struct __sk_buff *skb)
{
	return throwing(42) + 1;
}

SEC("tc") __success
__retval(44)
__hook("test_run")
__with(throws)
__repeat(2)
__global_is(hits, 2)
__global_is(argument, 42)
__global_is(bodies, 2)
int watcher_throws(struct __sk_buff *skb)
{
	return calm(42) + 1;
}

SEC("tc") __success
__retval(43)
__hook("test_run")
__with(throws)
__global_is(hits, 1)
__global_is(bodies, 1)
int both_throw(struct __sk_buff *skb)
{
	bpf_throw(calm(42));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
