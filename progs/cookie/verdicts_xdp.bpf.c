// SPDX-License-Identifier: GPL-2.0-only
/* The verdicts of XDP thrown one by one, and values that XDP does not know. */
#include "exceptions.h"

#define VERDICT(name, cookie)        \
	SEC("xdp")                   \
	__success                    \
	__retval(cookie)             \
	int name(struct xdp_md *ctx) \
	{                            \
		bpf_throw(cookie);   \
		return XDP_PASS;     \
	}
VERDICT(aborted, XDP_ABORTED)
VERDICT(drop, XDP_DROP)
VERDICT(pass, XDP_PASS)
VERDICT(tx, XDP_TX)
VERDICT(redirect, XDP_REDIRECT)
VERDICT(unknown, 7)
VERDICT(negative, -1)

char LICENSE[] SEC("license") = "GPL";
