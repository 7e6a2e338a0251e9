// SPDX-License-Identifier: GPL-2.0-only
/* One exception callback is enough. */
#include "exceptions.h"

int one(__u64 cookie)
{
	return 1;
}

int two(__u64 cookie)
{
	return 2;
}

SEC("tc") __failure
__errno(17)
__msg("multiple exception callback tags for main subprog")
__exception_cb(one)
__exception_cb(two)
int refused(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
