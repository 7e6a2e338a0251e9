// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bug G, too: a fentry program must return 0, and what is thrown becomes what it returns. In a
 * global function kernels up to 6.18 do not look.
 */
#include "exceptions.h"

__noinline int thrower(int x)
{
	barrier_var(x);
	bpf_throw(1);
	return x;
}

SEC("fentry/bpf_fentry_test1") __failure
__errno(22)
__msg("should have been in [0, 0]")
__hook("test_run")
__crashes("bug G: a cookie out of range")
int global(__u64 *ctx)
{
	thrower(ctx[0]);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
