// SPDX-License-Identifier: GPL-2.0-only
/* A cookie that is no error number, on an LSM hook. */
#include "exceptions.h"

SEC("lsm/file_open") __failure
__errno(22)
__msg("should have been in [-4095, 0]")
int refused(__u64 *ctx)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
