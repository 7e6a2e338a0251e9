// SPDX-License-Identifier: GPL-2.0-only
/* fexit on a main program that throws sees the callback's value; a fexit program that throws. */
#include "exceptions.h"

__u32 hits;
__u64 result;

int plus_30(__u64 cookie)
{
	return cookie + 30;
}

__noinline int calm(int x)
{
	barrier_var(x);
	return x + 1;
}

static __noinline int thrower(int x)
{
	barrier_var(x);
	bpf_throw(x);
	return 0;
}

SEC("?fexit/watched") __target
int watches(__u64 *ctx)
{
	hits++;
	result = ctx[1];
	return 0;
}

SEC("?fexit/watched_default") __target
int watches_default(__u64 *ctx)
{
	hits++;
	result = ctx[1];
	return 0;
}

SEC("?fexit/calm") __target
int throws(__u64 *ctx)
{
	hits++;
	result = ctx[1];
	bpf_throw(0);
	hits += 100;
	return 0;
}

SEC("tc") __success
__retval(35)
__hook("test_run")
__with(watches)
__exception_cb(plus_30)
__global_is(hits, 1)
__global_is(result, 35)
int watched(struct __sk_buff *skb)
{
	return thrower(5);
}

SEC("tc") __success
__retval(6)
__hook("test_run")
__with(watches_default)
__global_is(hits, 1)
__global_is(result, 6)
int watched_default(struct __sk_buff *skb)
{
	return thrower(6);
}

SEC("tc") __success
__retval(44)
__hook("test_run")
__with(throws)
__global_is(hits, 1)
__global_is(result, 43)
int watcher_throws(struct __sk_buff *skb)
{
	return calm(42) + 1;
}

char LICENSE[] SEC("license") = "GPL";
