// SPDX-License-Identifier: GPL-2.0-only
/* A cookie out of the range of the hook, where no callback stands between. */
#include "exceptions.h"

SEC("cgroup_skb/ingress") __failure
__errno(22)
__msg("should have been in [0, 1]")
int refused(struct __sk_buff *skb)
{
	bpf_throw(2);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
