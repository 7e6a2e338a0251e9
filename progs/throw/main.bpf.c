// SPDX-License-Identifier: GPL-2.0-only
/* A throw in the main program: always, never, depending on the data; on every tc hook. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

SEC("tc")
__success
__retval(TC_ACT_SHOT)
int always(struct __sk_buff *skb)
{
	bpf_throw(TC_ACT_SHOT);
	return TC_ACT_OK;
}

SEC("tc")
__success
__retval(TC_ACT_OK)
int never(struct __sk_buff *skb)
{
	if (!skb->len)
		bpf_throw(TC_ACT_SHOT);
	return TC_ACT_OK;
}

SEC("tc")
__success
__input(small, "eth ipv4 udp payload=18")
__retval_of(small, TC_ACT_OK)
__input(large, "eth ipv4 udp payload=400")
__retval_of(large, TC_ACT_SHOT)
int by_length(struct __sk_buff *skb)
{
	if (skb->len > 200)
		bpf_throw(TC_ACT_SHOT);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
