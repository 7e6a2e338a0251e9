// SPDX-License-Identifier: GPL-2.0-only
/* A sleepable program may sleep before the throw, and its callback after it. */
#include "exceptions.h"

__u64 read = 1;

/* Nobody has memory at address 0: the copy fails and leaves zeroes. */
int sleeps(__u64 cookie)
{
	if (!bpf_copy_from_user(&read, sizeof(read), (void *)0))
		return -1;
	return cookie + read + 1;
}

SEC("syscall") __success
__retval(41)
__exception_cb(sleeps)
__global_is(read, 0)
int in_callback(void *ctx)
{
	bpf_throw(40);
	return 0;
}

SEC("syscall") __success
__retval(50)
__global_is(read, 0)
int before_throw(void *ctx)
{
	bpf_copy_from_user(&read, sizeof(read), (void *)0);
	bpf_throw(50 + read);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
