// SPDX-License-Identifier: GPL-2.0-only
/* A throw in the middle of an encapsulation: the room is made, what was filled in stays, the rest
 * of the outer header is zero. */
#include "exceptions.h"
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

static __noinline void outer(struct __sk_buff *skb, __u32 limit)
{
	__u8 first = 0x45, protocol = 4;

	if (bpf_skb_store_bytes(skb, ETH_HLEN, &first, 1, 0))
		bpf_throw(100);
	if (skb->len > limit)
		bpf_throw(TC_ACT_SHOT);
	if (bpf_skb_store_bytes(skb, ETH_HLEN + 9, &protocol, 1, 0))
		bpf_throw(101);
}

SEC("tc") __success
__hook("test_run")
__input(whole, "eth ipv4 udp payload=18")
__retval_of(whole, TC_ACT_OK)
__input(half, "eth ipv4 udp payload=118")
__retval_of(half, TC_ACT_SHOT)
__input(six, "eth ipv6 udp payload=18")
__retval_of(six, TC_ACT_OK)
__input(none, "eth ethertype=0x88b5 payload=46")
__retval_of(none, 4294966772)
int tunnel(struct __sk_buff *skb)
{
	int problem = bpf_skb_adjust_room(skb, sizeof(struct iphdr), BPF_ADJ_ROOM_MAC,
					  BPF_F_ADJ_ROOM_ENCAP_L3_IPV4);

	if (problem)
		bpf_throw(problem);
	outer(skb, 100);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
