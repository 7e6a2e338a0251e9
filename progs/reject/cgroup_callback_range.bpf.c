// SPDX-License-Identifier: GPL-2.0-only
/* A callback whose value may be out of the range of the hook. */
#include "exceptions.h"

int callback(__u64 cookie)
{
	return cookie;
}

SEC("cgroup_skb/ingress") __failure
__errno(22)
__msg("should have been in [0, 1]")
__exception_cb(callback)
int refused(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
