// SPDX-License-Identifier: GPL-2.0-only
/* A tail call on the wire: the target throws the verdict for what the first program dispatched. */
#include "exceptions.h"

__u32 thrown;

int counts(__u64 cookie)
{
	thrown++;
	return cookie;
}

SEC("xdp") __target
__exception_cb(counts)
int long_frames(struct xdp_md *ctx)
{
	bpf_throw(XDP_DROP);
	return XDP_ABORTED;
}

SEC("xdp") __target
int short_frames(struct xdp_md *ctx)
{
	bpf_throw(XDP_TX);
	return XDP_ABORTED;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} jump SEC(".maps") = {.values = {[0] = (void *)&short_frames, [1] = (void *)&long_frames}};

SEC("xdp") __success
__repeat(2)
__input(short, "eth ipv4 udp payload=22")
__retval_of(short, XDP_TX)
__input(long, "eth ipv4 udp payload=400")
__retval_of(long, XDP_DROP)
int dispatch(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &jump, ctx->data_end - ctx->data > 200);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
