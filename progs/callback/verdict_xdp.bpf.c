// SPDX-License-Identifier: GPL-2.0-only
/* A callback that turns error numbers into XDP verdicts, as a real program would; every hook. */
#include "exceptions.h"

__u32 errors[4];

int verdict_of(__u64 error)
{
	errors[error & 3]++;
	return error == 1 ? XDP_DROP : XDP_PASS;
}

static __noinline void check(__u32 len)
{
	barrier_var(len);
	if (len < 40)
		bpf_throw(1);
	if (len > 100)
		bpf_throw(2);
}

SEC("xdp") __success
__exception_cb(verdict_of)
__input(short, "eth ipv4")
__retval_of(short, XDP_DROP)
__input(long, "eth ipv4 udp payload=100")
__retval_of(long, XDP_PASS)
__input(good, "eth ipv4 udp payload=22")
__retval_of(good, XDP_TX)
int verdicts(struct xdp_md *ctx)
{
	check(ctx->data_end - ctx->data);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
