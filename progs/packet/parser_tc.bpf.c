// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parser on tc. test_run of tc wants a whole IP header where the EtherType announces one, and
 * live ingress has lost the outer VLAN tag: hence the choice of packets.
 */
#include <linux/pkt_cls.h>
#define SHORT TC_ACT_SHOT
#define ODD   TC_ACT_STOLEN
#include "parser.h"

static __always_inline int verdict(struct __sk_buff *skb)
{
	int port = parse((void *)(long)skb->data, (void *)(long)skb->data_end);

	return port == 80 ? TC_ACT_UNSPEC : TC_ACT_OK;
}

SEC("tc") __success
__input(tcp4, "eth ipv4 tcp payload=10")
__retval_of(tcp4, TC_ACT_UNSPEC)
__input(udp6, "eth ipv6 udp payload=4")
__retval_of(udp6, TC_ACT_OK)
__input(cut, "eth ipv4 tcp cut=50")
__retval_of(cut, TC_ACT_SHOT)
__input(odd, "eth ipv4 udp payload=30 ihl=4")
__retval_of(odd, TC_ACT_STOLEN)
int live(struct __sk_buff *skb)
{
	return verdict(skb);
}

SEC("tc") __success
__hook("test_run")
__input(udp4, "eth ipv4 udp payload=20")
__retval_of(udp4, TC_ACT_OK)
__input(tcp6, "eth ipv6 tcp payload=10")
__retval_of(tcp6, TC_ACT_UNSPEC)
__input(vlan, "eth vlan=5 ipv4 tcp")
__retval_of(vlan, TC_ACT_UNSPEC)
__input(qinq, "eth qinq=7 vlan=5 ipv6 udp payload=8")
__retval_of(qinq, TC_ACT_OK)
__input(options, "eth ipv4 tcp ihl=15 doff=15 payload=3")
__retval_of(options, TC_ACT_UNSPEC)
__input(arp, "eth ethertype=0x0806 payload=28")
__retval_of(arp, TC_ACT_OK)
__input(version6, "eth ipv6 tcp version=4")
__retval_of(version6, TC_ACT_STOLEN)
int more(struct __sk_buff *skb)
{
	return verdict(skb);
}

/* One byte too few for each layer in turn. */
SEC("tc") __success
__hook("test_run")
__retval(TC_ACT_SHOT)
__input(vlan, "eth vlan=5 ipv4 tcp cut=17")
__input(ipv4, "eth vlan=5 ipv4 udp cut=37")
__input(tcp, "eth ipv4 tcp cut=53")
__input(udp, "eth ipv6 udp cut=61")
__input(tcp_options, "eth ipv6 tcp doff=8 cut=85")
int truncated(struct __sk_buff *skb)
{
	return verdict(skb);
}

/* Cut inside of the IP header: only a wire brings this. */
SEC("tc") __success
__retval(TC_ACT_SHOT)
__hook("tc-ingress")
__hook("tcx-ingress")
__input(ipv4, "eth ipv4 udp cut=33")
__input(ipv6, "eth ipv6 udp cut=53")
int truncated_on_the_wire(struct __sk_buff *skb)
{
	return verdict(skb);
}

char LICENSE[] SEC("license") = "GPL";
