// SPDX-License-Identifier: GPL-2.0-only
/* fentry and fexit programs of kernel functions throw; their own test run calls the functions. */
#include "exceptions.h"

__u32 hits, late;

static __noinline int thrower(int x)
{
	barrier_var(x);
	hits++;
	bpf_throw(0);
	late++;
	return x;
}

SEC("fentry/bpf_fentry_test1") __success
__hook("test_run")
__global_is(hits, 1)
__global_is(late, 0)
int enters(__u64 *ctx)
{
	thrower(1);
	late++;
	return 0;
}

SEC("fexit/bpf_fentry_test1") __success
__hook("test_run")
__global_is(hits, 1)
__global_is(late, 0)
int leaves(__u64 *ctx)
{
	thrower(2);
	late++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
