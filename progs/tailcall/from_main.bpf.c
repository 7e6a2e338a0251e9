// SPDX-License-Identifier: GPL-2.0-only
/* A tail-call target that throws: its own callback counts, never that of the program before it. */
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

static __noinline int thrower(int cookie)
{
	barrier_var(cookie);
	bpf_throw(cookie);
	return 0;
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
	return thrower(17);
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} jump SEC(".maps") = {.values = {[0] = (void *)&plain, [1] = (void *)&with_callback}};

SEC("tc") __success
__retval(16)
__hook("test_run")
int neither(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &jump, 0);
	return 2;
}

SEC("tc") __success
__retval(16)
__hook("test_run")
__exception_cb(callers)
__global_is(callers_calls, 0)
int only_caller(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &jump, 0);
	return thrower(2);
}

SEC("tc") __success
__retval(2017)
__hook("test_run")
int only_target(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &jump, 1);
	return 2;
}

SEC("tc") __success
__retval(2017)
__hook("test_run")
__exception_cb(callers)
__global_is(callers_calls, 0)
int both(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &jump, 1);
	return thrower(2);
}

/* An empty slot: the call does nothing, and the program itself throws. */
SEC("tc") __success
__retval(1009)
__hook("test_run")
__exception_cb(callers)
__global_is(callers_calls, 1)
int empty_slot(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &jump, 2);
	return thrower(9);
}

char LICENSE[] SEC("license") = "GPL";
