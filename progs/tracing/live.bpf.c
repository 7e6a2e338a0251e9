// SPDX-License-Identifier: GPL-2.0-only
/* Tracing programs around a program that throws, on the wire; they throw too. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

__u32 before, after;
__u64 result;

int drops(__u64 cookie)
{
	return cookie + TC_ACT_SHOT;
}

static __noinline int check(__u32 len)
{
	barrier_var(len);
	if (len < 200)
		bpf_throw(0);
	return TC_ACT_OK;
}

SEC("?fentry/verdicts") __target
int on_entry(__u64 *ctx)
{
	before++;
	bpf_throw(0);
	before += 100;
	return 0;
}

SEC("?fexit/verdicts") __target
int on_exit(__u64 *ctx)
{
	after++;
	result = (__u32)ctx[1];
	bpf_throw(0);
	after += 100;
	return 0;
}

SEC("tc") __success
__with(on_entry)
__with(on_exit)
__exception_cb(drops)
__global_is(before, 1)
__global_is(after, 1)
__input(short, "eth ipv4 udp payload=22")
__retval_of(short, TC_ACT_SHOT)
__input(long, "eth ipv4 udp payload=400")
__retval_of(long, TC_ACT_OK)
int verdicts(struct __sk_buff *skb)
{
	return check(skb->len);
}

char LICENSE[] SEC("license") = "GPL";
