// SPDX-License-Identifier: GPL-2.0-only
/* Plain raw tracepoint programs may throw since 7.3; before, the verifier does not let them. */
#include "exceptions.h"

#define NOT_BEFORE_7_3                \
	__on("6.12,6.18", "failure")  \
	__on("6.12,6.18", "errno=13") \
	__on("6.12,6.18", "msg=1=calling kernel function bpf_throw is not allowed")

static __noinline int thrower(__u64 cookie)
{
	barrier_var(cookie);
	bpf_throw(cookie);
	return 0;
}

SEC("raw_tp") __success
__retval(17)
NOT_BEFORE_7_3
int always(void *ctx)
{
	return thrower(17);
}

SEC("raw_tp") NOT_BEFORE_7_3 __success
__input(two, "ctx=02000000000000000a00000000000000")
__retval_of(two, 12)
__input(three, "ctx=03000000000000000a00000000000000")
__retval_of(three, 13)
int arguments(__u64 *ctx)
{
	return thrower(ctx[0] + ctx[1]);
}

char LICENSE[] SEC("license") = "GPL";
