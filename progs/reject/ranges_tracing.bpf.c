// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs before and behind a kernel function return 0, and throw nothing else. What does load
 * is in ranges_tracing_within.bpf.c: their sections cannot start with "?".
 */
#include "verdict.h"

#define OUT_OF(section) \
	SEC(section)    \
	__failure       \
	__errno(22)     \
	__msg("should have been in [0, 0]")

int masks(__u64 cookie)
{
	return cookie & 1;
}

OUT_OF("fexit/bpf_fentry_test1")
int fexit(__u64 *ctx)
{
	bpf_throw(1);
	return 0;
}

OUT_OF("fentry/bpf_fentry_test1")
int unknown(__u64 *ctx)
{
	bpf_throw(ctx[0]);
	return 0;
}

OUT_OF("fentry/bpf_fentry_test1")
int negative(__u64 *ctx)
{
	bpf_throw(-1);
	return 0;
}

OUT_OF("fentry.s/bpf_fentry_test1")
int sleepable(__u64 *ctx)
{
	bpf_throw(1);
	return 0;
}

OUT_OF("fentry/bpf_fentry_test1")
__exception_cb(masks)
int callback(__u64 *ctx)
{
	bpf_throw(0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
