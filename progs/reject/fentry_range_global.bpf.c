// SPDX-License-Identifier: GPL-2.0-only
/* The range of a cookie thrown in a global function: not looked at before 7.3. */
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
__on("6.12,6.18", "success")
int refused(__u64 *ctx)
{
	thrower(ctx[0]);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
