// SPDX-License-Identifier: GPL-2.0-only
/* The bounds check of the proposal, one line, at fixed, variable and absurd offsets; every hook. */
#include "exceptions.h"

__u32 last;

static __noinline int byte_at(void *data, void *end, __u32 offset)
{
	if (data + offset + 1 > end)
		bpf_throw(XDP_DROP);
	last = *(__u8 *)(data + offset);
	return XDP_PASS;
}

SEC("xdp") __success
__input(long, "eth ipv4 udp payload=58")
__retval_of(long, XDP_PASS)
__input(short, "eth ipv4 udp payload=22")
__retval_of(short, XDP_DROP)
int fixed(struct xdp_md *ctx)
{
	return byte_at((void *)(long)ctx->data, (void *)(long)ctx->data_end, 70);
}

/* The first byte of the payload says where to look. */
SEC("xdp") __success
__hook("test_run")
__input(inside, "eth ipv4 udp hex=2b02030405")
__retval_of(inside, XDP_PASS)
__input(last_byte, "eth ipv4 udp hex=2e02030405")
__retval_of(last_byte, XDP_PASS)
__input(behind, "eth ipv4 udp hex=2f02030405")
__retval_of(behind, XDP_DROP)
__input(far, "eth ipv4 udp hex=ff02030405")
__retval_of(far, XDP_DROP)
int from_packet(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	byte_at(data, end, 42);
	return byte_at(data, end, last & 0xff);
}

char LICENSE[] SEC("license") = "GPL";
