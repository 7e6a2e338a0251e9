// SPDX-License-Identifier: GPL-2.0-only
/* The parser on XDP: good, short, truncated and odd packets. XDP_TX is the verdict for port 80. */
#define SHORT XDP_DROP
#define ODD   XDP_ABORTED
#include "parser.h"

static __always_inline int verdict(struct xdp_md *ctx)
{
	int port = parse((void *)(long)ctx->data, (void *)(long)ctx->data_end);

	return port == 80 ? XDP_TX : XDP_PASS;
}

SEC("xdp") __success
__input(tcp4, "eth ipv4 tcp payload=10")
__retval_of(tcp4, XDP_TX)
__input(udp6, "eth vlan=7 ipv6 udp payload=4")
__retval_of(udp6, XDP_PASS)
__input(cut, "eth ipv4 tcp cut=50")
__retval_of(cut, XDP_DROP)
__input(odd, "eth ipv4 udp payload=30 ihl=4")
__retval_of(odd, XDP_ABORTED)
int live(struct xdp_md *ctx)
{
	return verdict(ctx);
}

SEC("xdp") __success
__hook("test_run")
__input(udp4, "eth ipv4 udp payload=20")
__retval_of(udp4, XDP_PASS)
__input(tcp6, "eth ipv6 tcp payload=10")
__retval_of(tcp6, XDP_TX)
__input(vlan, "eth vlan=5 ipv4 tcp")
__retval_of(vlan, XDP_TX)
__input(qinq, "eth qinq=7 vlan=5 ipv6 udp payload=8")
__retval_of(qinq, XDP_PASS)
__input(options, "eth ipv4 tcp ihl=15 doff=15 payload=3")
__retval_of(options, XDP_TX)
__input(gre, "eth ipv4 proto=47 payload=40")
__retval_of(gre, XDP_PASS)
__input(arp, "eth ethertype=0x0806 payload=28")
__retval_of(arp, XDP_PASS)
__input(no_options, "eth ipv4 tcp ihl=8 payload=100 cut=40")
__retval_of(no_options, XDP_DROP)
__input(third_tag, "eth qinq=1 qinq=2 vlan=3 ipv4 tcp")
__retval_of(third_tag, XDP_PASS)
__input(version, "eth ipv4 tcp version=5")
__retval_of(version, XDP_ABORTED)
__input(version6, "eth ipv6 tcp version=4")
__retval_of(version6, XDP_ABORTED)
__input(doff, "eth ipv6 tcp doff=4 payload=10")
__retval_of(doff, XDP_ABORTED)
int more(struct xdp_md *ctx)
{
	return verdict(ctx);
}

/* One byte too few for each layer in turn. */
SEC("xdp") __success
__hook("test_run")
__retval(XDP_DROP)
__input(vlan, "eth vlan=5 ipv4 tcp cut=17")
__input(qinq, "eth qinq=7 vlan=5 ipv4 tcp cut=21")
__input(ipv4, "eth ipv4 udp cut=33")
__input(ipv6, "eth ipv6 udp cut=53")
__input(tcp, "eth ipv4 tcp cut=53")
__input(udp, "eth ipv6 udp cut=61")
__input(ip_options, "eth ipv4 udp ihl=7 cut=41")
__input(tcp_options, "eth ipv6 tcp doff=8 cut=85")
int truncated(struct xdp_md *ctx)
{
	return verdict(ctx);
}

char LICENSE[] SEC("license") = "GPL";
