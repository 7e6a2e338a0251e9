// SPDX-License-Identifier: GPL-2.0-only
/* Programs of section lwt_in may not call bpf_throw(). */
#include "exceptions.h"

SEC("lwt_in") __failure
__errno(13)
__msg("calling kernel function bpf_throw is not allowed")
int refused(void *ctx)
{
	bpf_throw(0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
