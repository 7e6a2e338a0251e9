// SPDX-License-Identifier: GPL-2.0-only
/* Nobody calls an exception callback but a throw. */
#include "verdict.h"

#define DIRECTLY REFUSED(22, "insn {{[0-9]+}} cannot call exception cb directly")

int ticks;

__noinline int callback(__u64 cookie)
{
	barrier_var(cookie);
	return cookie + 1;
}

__noinline int recursive(__u64 cookie)
{
	int value = 1;

	barrier_var(cookie);
	if (cookie > 10)
		value = recursive(cookie / 2);
	/* Or clang would make a loop of it. */
	barrier_var(value);
	return value;
}

static __noinline int from_static(__u64 x)
{
	barrier_var(x);
	return callback(x) + 1;
}

__noinline int from_global(__u64 x)
{
	barrier_var(x);
	return callback(x) + 1;
}

DIRECTLY
__exception_cb(callback)
int in_static(struct __sk_buff *skb)
{
	bpf_throw(from_static(skb->len));
	return 0;
}

DIRECTLY
__exception_cb(callback)
int in_global(struct __sk_buff *skb)
{
	bpf_throw(from_global(skb->len));
	return 0;
}

DIRECTLY
__on("7.3", "msg=1=recursive call from recursive() to recursive()")
__exception_cb(recursive)
int itself(struct __sk_buff *skb)
{
	bpf_throw(40);
	return 0;
}

/* That the verifier knows the branch to be dead does not help: the walk is over instructions. */
DIRECTLY
__exception_cb(callback)
int in_dead_branch(struct __sk_buff *skb)
{
	__u64 zero = 0;

	barrier_var(zero);
	if (zero)
		return callback(1);
	bpf_throw(3);
	return 0;
}

/* A helper may not call it either: what helpers call is static. */
int each_time(__u64 index)
{
	ticks += index;
	return 0;
}

REFUSED(22, "callback function not static")
__exception_cb(each_time)
int as_loop_callback(struct __sk_buff *skb)
{
	bpf_loop(3, each_time, 0, 0);
	bpf_throw(3);
	return 0;
}

static __noinline int shared(__u64 x)
{
	barrier_var(x);
	return x + 1;
}

int calls_shared(__u64 cookie)
{
	return shared(cookie);
}

NEAR_MISS(66)
__exception_cb(calls_shared)
int what_both_call(struct __sk_buff *skb)
{
	bpf_throw(shared(skb->len));
	return 0;
}

/* Another program's callback is any global function. */
NEAR_MISS(67)
__exception_cb(calls_shared)
int callback_of_others(struct __sk_buff *skb)
{
	bpf_throw(callback(skb->len) + 1);
	return 0;
}

static int each_time_static(__u32 index, void *unused)
{
	ticks += index;
	return 0;
}

NEAR_MISS(4)
__exception_cb(callback)
int loop_of_its_own(struct __sk_buff *skb)
{
	bpf_loop(3, each_time_static, 0, 0);
	bpf_throw(3);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
