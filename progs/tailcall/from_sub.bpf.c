// SPDX-License-Identifier: GPL-2.0-only
/* A tail call from a subprogram: what the target throws is the value of the call, and main goes on.
 */
#include "exceptions.h"

int callers_calls;

int callers(__u64 cookie)
{
	callers_calls++;
	return cookie + 1000;
}

int targets(__u64 cookie)
{
	return cookie + 2000;
}

SEC("tc") __target
int plain(struct __sk_buff *skb)
{
	bpf_throw(16);
	return 1;
}

SEC("tc") __target
__exception_cb(targets)
int with_callback(struct __sk_buff *skb)
{
	bpf_throw(17);
	return 1;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} jump SEC(".maps") = {.values = {[0] = (void *)&plain, [1] = (void *)&with_callback}};

/* The barrier: clang would take 3 for the only value that a caller can get. */
static __noinline int jump_0(struct __sk_buff *skb)
{
	int result = 3;

	barrier_var(result);
	bpf_tail_call(skb, &jump, 0);
	return result;
}

static __noinline int jump_1(struct __sk_buff *skb)
{
	int result = 3;

	barrier_var(result);
	bpf_tail_call(skb, &jump, 1);
	return result;
}

static __noinline int deeper(struct __sk_buff *skb)
{
	return jump_0(skb) + 50;
}

SEC("tc") __success
__retval(24)
__hook("test_run")
int neither(struct __sk_buff *skb)
{
	return jump_0(skb) + 8;
}

SEC("tc") __success
__retval(24)
__hook("test_run")
__exception_cb(callers)
__global_is(callers_calls, 0)
int only_caller(struct __sk_buff *skb)
{
	return jump_0(skb) + 8;
}

SEC("tc") __success
__retval(2025)
__hook("test_run")
int only_target(struct __sk_buff *skb)
{
	return jump_1(skb) + 8;
}

/* Callbacks on both sides: the target's is asked, the caller's only for a throw of its own. */
SEC("tc") __success
__retval(2025)
__hook("test_run")
__exception_cb(callers)
__global_is(callers_calls, 0)
int both(struct __sk_buff *skb)
{
	return jump_1(skb) + 8;
}

SEC("tc") __success
__retval(3017)
__hook("test_run")
__exception_cb(callers)
__global_is(callers_calls, 1)
int both_throw(struct __sk_buff *skb)
{
	bpf_throw(jump_1(skb));
	return 0;
}

SEC("tc") __success
__retval(74)
__hook("test_run")
int from_second_level(struct __sk_buff *skb)
{
	return deeper(skb) + 8;
}

/* Main throws again what it got that way: now its own callback is asked. */
SEC("tc") __success
__retval(1216)
__hook("test_run")
__exception_cb(callers)
__global_is(callers_calls, 1)
int rethrows(struct __sk_buff *skb)
{
	bpf_throw(jump_0(skb) + 200);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
