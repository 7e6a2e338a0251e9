// SPDX-License-Identifier: GPL-2.0-only
/* What was written to the packet before the throw stays written, and travels on; every XDP hook. */
#include "exceptions.h"

static __noinline void mark(struct xdp_md *ctx, __u8 value)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *bytes = data;

	if (data + 60 > end)
		bpf_throw(XDP_DROP);
	bytes[58] = value;
	bytes[59] = value + 1;
}

SEC("xdp") __success
__input(good, "eth ipv4 udp payload=22")
__retval_of(good, XDP_PASS)
__input(short, "eth ipv4 udp payload=2")
__retval_of(short, XDP_DROP)
int writes_then_passes(struct xdp_md *ctx)
{
	mark(ctx, 0xa1);
	bpf_throw(XDP_PASS);
	return XDP_DROP;
}

SEC("xdp") __success
__retval(XDP_TX)
int writes_then_transmits(struct xdp_md *ctx)
{
	mark(ctx, 0xb1);
	bpf_throw(XDP_TX);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
