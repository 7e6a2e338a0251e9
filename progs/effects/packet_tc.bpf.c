// SPDX-License-Identifier: GPL-2.0-only
/* What was written to the packet before the throw stays written; every tc hook. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

static __noinline void mark(struct __sk_buff *skb, __u8 value)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 *bytes = data;

	if (data + 60 > end)
		bpf_throw(TC_ACT_SHOT);
	bytes[58] = value;
	bytes[59] = value + 1;
}

SEC("tc") __success
__input(good, "eth ipv4 udp payload=22")
__retval_of(good, TC_ACT_OK)
__input(short, "eth ipv4 udp payload=2")
__retval_of(short, TC_ACT_SHOT)
int writes_then_passes(struct __sk_buff *skb)
{
	mark(skb, 0xc1);
	bpf_throw(TC_ACT_OK);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
