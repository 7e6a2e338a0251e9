// SPDX-License-Identifier: GPL-2.0-only
/* fentry programs have no value but 0, and so have their cookies. */
#include "exceptions.h"

SEC("fentry/bpf_fentry_test1") __failure
__errno(22)
__msg("should have been in [0, 0]")
int refused(__u64 *ctx)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
