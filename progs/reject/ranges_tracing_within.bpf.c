// SPDX-License-Identifier: GPL-2.0-only
/* The near misses of ranges_tracing.bpf.c: what is thrown is 0, and known to be. */
#include "verdict.h"

#define WITHIN(section)        \
	SEC(section) __success \
	__hook("load")

int returns_zero(__u64 cookie)
{
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
