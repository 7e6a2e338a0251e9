/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A parser in several functions that throws where the packet ends too early, as the proposal for
 * bpf_throw() shows it. The includer defines SHORT and ODD, the verdicts to throw.
 */
#include "exceptions.h"
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

/* How often each layer was parsed to its end. */
__u32 seen_eth, seen_vlan, seen_ipv4, seen_ipv6, seen_tcp, seen_udp, seen_other;
__u32 payload_bytes;

struct vlan {
	__be16 tci;
	__be16 ethertype;
};

struct cursor {
	void *pos;
	void *end;
};

/* The next `size` bytes, or out of the program. */
static __always_inline void *take(struct cursor *at, __u32 size)
{
	void *start = at->pos;

	if (start + size > at->end)
		bpf_throw(SHORT);
	at->pos = start + size;
	return start;
}

static __noinline int parse_tcp(struct cursor *at)
{
	struct tcphdr *tcp = take(at, sizeof(*tcp));
	__u32 options = tcp->doff * 4;

	bpf_assert_ge_with(options, sizeof(*tcp), ODD);
	take(at, options - sizeof(*tcp));
	seen_tcp++;
	payload_bytes = at->end - at->pos;
	return bpf_ntohs(tcp->dest);
}

static __noinline int parse_udp(struct cursor *at)
{
	struct udphdr *udp = take(at, sizeof(*udp));

	if (bpf_ntohs(udp->len) < sizeof(*udp))
		bpf_throw(ODD);
	seen_udp++;
	payload_bytes = at->end - at->pos;
	return bpf_ntohs(udp->dest);
}

static __noinline int parse_transport(struct cursor *at, __u8 proto)
{
	if (proto == IPPROTO_TCP)
		return parse_tcp(at);
	if (proto == IPPROTO_UDP)
		return parse_udp(at);
	seen_other++;
	return 0;
}

static __noinline int parse_ipv4(struct cursor *at)
{
	struct iphdr *ip = take(at, sizeof(*ip));
	__u32 options = ip->ihl * 4;

	if (ip->version != 4 || options < sizeof(*ip))
		bpf_throw(ODD);
	take(at, options - sizeof(*ip));
	seen_ipv4++;
	return parse_transport(at, ip->protocol);
}

static __noinline int parse_ipv6(struct cursor *at)
{
	struct ipv6hdr *ip = take(at, sizeof(*ip));

	if (ip->version != 6)
		bpf_throw(ODD);
	seen_ipv6++;
	return parse_transport(at, ip->nexthdr);
}

static __noinline int parse_network(struct cursor *at, __be16 ethertype)
{
	switch (ethertype) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(at);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(at);
	}
	seen_other++;
	return 0;
}

/* The destination port, or 0 for what is neither TCP nor UDP. */
static __noinline int parse(void *data, void *end)
{
	struct cursor at = {data, end};
	struct ethhdr *eth = take(&at, sizeof(*eth));
	__be16 ethertype = eth->h_proto;

	seen_eth++;
	for (int tags = 0; tags < 2; tags++) {
		struct vlan *vlan;

		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		vlan = take(&at, sizeof(*vlan));
		ethertype = vlan->ethertype;
		seen_vlan++;
	}
	return parse_network(&at, ethertype);
}
