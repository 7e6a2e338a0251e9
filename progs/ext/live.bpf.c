// SPDX-License-Identifier: GPL-2.0-only
/* freplace programs that throw, on the wire: in place of a function, and of one that the callback
 * calls. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

__u32 callback_calls;

__noinline int judge(int len)
{
	barrier_var(len);
	return len < 200 ? TC_ACT_SHOT : TC_ACT_OK;
}

__noinline int judge_frame(int len)
{
	barrier_var(len);
	return len < 200 ? XDP_DROP : XDP_PASS;
}

int callback(__u64 cookie)
{
	callback_calls++;
	return judge(cookie);
}

/* The other way round than the function it replaces. */
SEC("?freplace/judge") __target
int turns_round(int len)
{
	bpf_throw(len < 200 ? TC_ACT_OK : TC_ACT_SHOT);
	return TC_ACT_SHOT;
}

SEC("?freplace/judge_frame") __target
int turns_round_frame(int len)
{
	bpf_throw(len < 200 ? XDP_PASS : XDP_DROP);
	return XDP_ABORTED;
}

SEC("tc") __success
__with(turns_round)
__global_is(callback_calls, 0)
__exception_cb(callback)
__input(short, "eth ipv4 udp payload=22")
__retval_of(short, TC_ACT_OK)
__input(long, "eth ipv4 udp payload=400")
__retval_of(long, TC_ACT_SHOT)
int called_by_main(struct __sk_buff *skb)
{
	return judge(skb->len);
}

SEC("tc") __success
__with(turns_round)
__global_is(callback_calls, 1)
__exception_cb(callback)
__input(short, "eth ipv4 udp payload=22")
__retval_of(short, TC_ACT_OK)
__input(long, "eth ipv4 udp payload=400")
__retval_of(long, TC_ACT_SHOT)
int called_by_callback(struct __sk_buff *skb)
{
	bpf_throw(skb->len);
	return TC_ACT_SHOT;
}

SEC("xdp") __success
__with(turns_round_frame)
__input(short, "eth ipv4 udp payload=22")
__retval_of(short, XDP_PASS)
__input(long, "eth ipv4 udp payload=400")
__retval_of(long, XDP_DROP)
int called_by_xdp(struct xdp_md *ctx)
{
	return judge_frame(ctx->data_end - ctx->data);
}

char LICENSE[] SEC("license") = "GPL";
