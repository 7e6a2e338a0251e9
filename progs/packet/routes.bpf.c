// SPDX-License-Identifier: GPL-2.0-only
/* A router's table: the longest prefix decides, and where none fits a throw does. */
#include "exceptions.h"
#include <bpf/bpf_endian.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

struct prefix {
	__u32 bits;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4);
	__type(key, struct prefix);
	__type(value, __u32);
} routes SEC(".maps");

static __noinline void add(__u32 bits, __u32 address, __u32 action)
{
	struct prefix key = {bits, bpf_htonl(address)};

	if (bpf_map_update_elem(&routes, &key, &action, BPF_ANY))
		bpf_throw(XDP_ABORTED);
}

static __noinline __u32 route(__be32 to)
{
	struct prefix key = {32, to};
	__u32 *action = bpf_map_lookup_elem(&routes, &key);

	if (!action)
		bpf_throw(XDP_DROP);
	return *action;
}

static __always_inline __be32 target(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct iphdr *ip = data + sizeof(struct ethhdr);

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		bpf_throw(XDP_ABORTED);
	return ip->daddr;
}

/* frames go to 192.0.2.2 */
SEC("xdp") __success
__input(to, "eth ipv4 udp payload=18")
__retval_of(to, XDP_TX)
__input(cut, "eth ipv4 cut=33")
__retval_of(cut, XDP_ABORTED)
int longest(struct xdp_md *ctx)
{
	add(8, 0xc0000000, XDP_PASS);
	add(24, 0xc0000200, XDP_TX);
	add(32, 0xc0000201, XDP_PASS);
	return route(target(ctx));
}

SEC("xdp") __success
__retval(XDP_DROP)
int none(struct xdp_md *ctx)
{
	add(32, 0xc0000201, XDP_PASS);
	add(31, 0xc0000204, XDP_PASS);
	return route(target(ctx));
}

SEC("xdp") __success
__hook("test_run")
__retval(XDP_ABORTED)
int full(struct xdp_md *ctx)
{
	for (__u32 i = 0; i < 5; i++)
		add(8, i << 24, XDP_PASS);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
