// SPDX-License-Identifier: GPL-2.0-only
/* The tag on a static function: libbpf refuses every program of such an object. */
#include "verdict.h"

int callback(__u64 cookie)
{
	return cookie + 1;
}

__exception_cb(callback)
static __noinline int tagged(__u64 x)
{
	barrier_var(x);
	bpf_throw(x);
	return 0;
}

REFUSED(22, "decl tag not applied to the main program")
int refused(struct __sk_buff *skb)
{
	return tagged(skb->len);
}

char LICENSE[] SEC("license") = "GPL";
