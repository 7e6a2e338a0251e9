// SPDX-License-Identifier: GPL-2.0-only
/* Programs before and behind a kernel function return 0, and throw nothing else. */
#include "verdict.h"

#define OUT_OF(section) \
	SEC(section)    \
	__failure       \
	__errno(22)     \
	__msg("should have been in [0, 0]")
#define WITHIN(section)        \
	SEC(section) __success \
	__hook("load")

int masks(__u64 cookie)
{
	return cookie & 1;
}

int returns_zero(__u64 cookie)
{
	return 0;
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

WITHIN("fexit/bpf_fentry_test1")
int fexit_within(__u64 *ctx)
{
	bpf_throw(0);
	return 0;
}

WITHIN("fentry.s/bpf_fentry_test1")
int sleepable_within(__u64 *ctx)
{
	bpf_throw(0);
	return 0;
}

WITHIN("fentry/bpf_fentry_test1")
__exception_cb(returns_zero)
int callback_within(__u64 *ctx)
{
	bpf_throw(ctx[0]);
	return 0;
}

/* What is left of an unknown number where it is known to be none. */
WITHIN("fentry/bpf_fentry_test1")
int known_to_be_zero(__u64 *ctx)
{
	__u64 first = ctx[0];

	barrier_var(first);
	if (!first)
		bpf_throw(first);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
