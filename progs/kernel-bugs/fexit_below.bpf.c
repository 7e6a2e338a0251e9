// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bug B: a fexit program watches a function between the throw and the program. The trampoline's
 * frame belongs to no program, so the walk over the stack ends there and finds no program.
 */
#include "exceptions.h"

__u32 hits;

int plus_30(__u64 cookie)
{
	return cookie + 30;
}

__noinline int middle(int x)
{
	barrier_var(x);
	bpf_throw(x);
	return x;
}

SEC("?fexit/middle") __target
int watches(__u64 *ctx)
{
	hits++;
	return 0;
}

#define CRASHES            \
	__success          \
	__hook("test_run") \
	__with(watches)    \
	__crashes("bug B: fexit below a throw")

/* The watcher sees no return: nothing returned. */
SEC("?tc") CRASHES __retval(35)
__exception_cb(plus_30)
__global_is(hits, 0)
int own_callback(struct __sk_buff *skb)
{
	return middle(5) + 1;
}

SEC("?tc") CRASHES __retval(5)
__global_is(hits, 0)
int default_callback(struct __sk_buff *skb)
{
	return middle(5) + 1;
}

char LICENSE[] SEC("license") = "GPL";
