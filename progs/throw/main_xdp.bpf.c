// SPDX-License-Identifier: GPL-2.0-only
/* A throw in the main program of type XDP, on every XDP hook. */
#include "exceptions.h"

SEC("xdp")
__success
__retval(XDP_DROP)
int always(struct xdp_md *ctx)
{
	bpf_throw(XDP_DROP);
	return XDP_PASS;
}

SEC("xdp")
__success
__retval(XDP_PASS)
int never(struct xdp_md *ctx)
{
	if (ctx->data_end == ctx->data)
		bpf_throw(XDP_DROP);
	return XDP_PASS;
}

SEC("xdp")
__success
__input(small, "eth ipv4 udp payload=18")
__retval_of(small, XDP_PASS)
__input(large, "eth ipv4 udp payload=400")
__retval_of(large, XDP_DROP)
int by_length(struct xdp_md *ctx)
{
	if (ctx->data_end - ctx->data > 200)
		bpf_throw(XDP_DROP);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
