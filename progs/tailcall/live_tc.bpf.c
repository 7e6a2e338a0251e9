// SPDX-License-Identifier: GPL-2.0-only
/* Tail calls on the wire, tc: from main and from a subprogram, with callbacks on both sides. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

__u32 callers_calls, targets_calls;

int callers(__u64 cookie)
{
	callers_calls++;
	return TC_ACT_SHOT;
}

int targets(__u64 cookie)
{
	targets_calls++;
	return cookie;
}

SEC("tc") __target
__exception_cb(targets)
int throws_shot(struct __sk_buff *skb)
{
	bpf_throw(TC_ACT_SHOT);
	return TC_ACT_OK;
}

SEC("tc") __target
__exception_cb(targets)
int throws_ok(struct __sk_buff *skb)
{
	bpf_throw(TC_ACT_OK);
	return TC_ACT_SHOT;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} jump SEC(".maps") = {.values = {[0] = (void *)&throws_ok, [1] = (void *)&throws_shot}};

static __noinline int by_length(struct __sk_buff *skb)
{
	int result = TC_ACT_PIPE;

	barrier_var(result);
	bpf_tail_call(skb, &jump, skb->len > 200);
	return result;
}

/* The target's value is main's: its caller's callback is never asked. */
SEC("tc") __success
__exception_cb(callers)
__global_is(callers_calls, 0)
__global_is(targets_calls, 1)
__input(short, "eth ipv4 udp payload=22")
__retval_of(short, TC_ACT_OK)
__input(long, "eth ipv4 udp payload=400")
__retval_of(long, TC_ACT_SHOT)
int from_main(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &jump, skb->len > 200);
	return TC_ACT_PIPE;
}

/* The target's value is the call's: main goes on, and turns it round. */
SEC("tc") __success
__exception_cb(callers)
__global_is(callers_calls, 0)
__global_is(targets_calls, 1)
__input(short, "eth ipv4 udp payload=22")
__retval_of(short, TC_ACT_SHOT)
__input(long, "eth ipv4 udp payload=400")
__retval_of(long, TC_ACT_OK)
int from_subprogram(struct __sk_buff *skb)
{
	return by_length(skb) == TC_ACT_OK ? TC_ACT_SHOT : TC_ACT_OK;
}

/* ... or throws because of it: now the caller's callback is asked. */
SEC("tc") __success
__exception_cb(callers)
__global_is(callers_calls, 1)
__global_is(targets_calls, 1)
__retval(TC_ACT_SHOT)
int throws_again(struct __sk_buff *skb)
{
	bpf_throw(by_length(skb) + 100);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
