// SPDX-License-Identifier: GPL-2.0-only
/* What programs see on live hooks, and what they do to frames there.
 * Not cases of the suite: `bpfthrow run tests/sim/probes` holds the simulator against a kernel. */
#include "exceptions.h"
#include <linux/pkt_cls.h>
#define G(name, expr)                                       \
	__u64 v_##name;                                     \
	SEC("tc") __success                                 \
	__input(d, "eth ipv4 udp payload=22")               \
	__input(v, "eth vlan=5 ipv4 udp payload=22")        \
	__input(q, "eth qinq=7 vlan=5 ipv4 udp payload=22") \
	__input(odd, "eth ethertype=0x88b5 payload=46")     \
	int name(struct __sk_buff *ctx)                     \
	{                                                   \
		v_##name = (expr);                          \
		return TC_ACT_OK;                           \
	}
G(len, ctx->len)
G(proto, ctx->protocol)
G(vp, ctx->vlan_present)
G(tci, ctx->vlan_tci)
G(vproto, ctx->vlan_proto)
G(mark, ctx->mark)
G(prio, ctx->priority)
G(tcidx, ctx->tc_index)
G(cb, ctx->cb[0] + ctx->cb[4])
G(linear, ctx->data_end - ctx->data)
__u32 w12;
SEC("tc") __success
__input(v, "eth vlan=5 ipv4 udp payload=22")
int word(struct __sk_buff *ctx)
{
	bpf_skb_load_bytes(ctx, 12, &w12, 4);
	return TC_ACT_OK;
}
#define X(name, expr)                                \
	__u64 x_##name;                              \
	SEC("xdp") __success                         \
	__input(d, "eth ipv4 udp payload=22")        \
	__input(v, "eth vlan=5 ipv4 udp payload=22") \
	int x##name(struct xdp_md *ctx)              \
	{                                            \
		x_##name = (expr);                   \
		return XDP_PASS;                     \
	}
X(len, ctx->data_end - ctx->data)
X(meta, ctx->data - ctx->data_meta)
X(rq, ctx->rx_queue_index)
SEC("xdp") __success
int x_grow(struct xdp_md *ctx)
{
	bpf_xdp_adjust_head(ctx, 14);
	return XDP_PASS;
}
SEC("xdp") __success
int x_cut(struct xdp_md *ctx)
{
	bpf_xdp_adjust_tail(ctx, -20);
	return XDP_TX;
}
SEC("xdp") __success
int x_push(struct xdp_md *ctx)
{
	bpf_xdp_adjust_head(ctx, -14);
	void *d = (void *)(long)ctx->data;
	if (d + 28 > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	__builtin_memcpy(d, d + 14, 14);
	return XDP_TX;
}
#define L(name, ...)                                 \
	__u64 l_##name;                              \
	SEC("tc") __success                          \
	__input(d, "eth ipv4 udp payload=122")       \
	__input(v, "eth vlan=5 ipv4 udp payload=122") \
	int l##name(struct __sk_buff *ctx)           \
	{                                            \
		long r;                              \
		__VA_ARGS__                          \
		l_##name = r * 1000000 + ctx->len * 1000 + ctx->vlan_tci; \
		return TC_ACT_OK;                    \
	}
L(push, r = bpf_skb_vlan_push(ctx, 0x0081, 9);)
L(pop, r = bpf_skb_vlan_pop(ctx);)
L(grow, r = bpf_skb_change_tail(ctx, 200, 0);)
L(cut, r = bpf_skb_change_tail(ctx, 130, 0);)
L(store, __u32 w = 0x01020304; r = bpf_skb_store_bytes(ctx, 40, &w, 4, 1);)
L(room, r = bpf_skb_adjust_room(ctx, 8, BPF_ADJ_ROOM_MAC, 0);)
L(l4, r = bpf_l4_csum_replace(ctx, 40, 1, 2, 2);)
char _license[] SEC("license") = "GPL";
