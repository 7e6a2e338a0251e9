// SPDX-License-Identifier: GPL-2.0-only
/* sock_ops programs may throw 0 and 1 since 6.18. */
#include "exceptions.h"

SEC("sockops") __success
__on("6.12", "failure")
__on("6.12", "errno=13")
__on("6.12", "msg=1=calling kernel function bpf_throw is not allowed")
int throws_one(struct bpf_sock_ops *ctx)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
