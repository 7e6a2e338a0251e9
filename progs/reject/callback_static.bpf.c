// SPDX-License-Identifier: GPL-2.0-only
/* The exception callback must be a global function. */
#include "exceptions.h"

static __noinline __attribute__((used)) int callback(__u64 cookie)
{
	return cookie + 1;
}

SEC("tc") __failure
__errno(22)
__msg("{{must be a global non-hidden function|must have global linkage}}")
__exception_cb(callback)
int refused(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
