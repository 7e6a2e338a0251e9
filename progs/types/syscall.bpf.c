// SPDX-License-Identifier: GPL-2.0-only
/* Sleepable syscall programs: the context is an argument of our own, the value is 32 bits wide. */
#include "exceptions.h"

struct args {
	__u64 cookie;
	__u32 depth;
	__u32 written;
};

static __noinline int thrower(struct args *args)
{
	args->written = 0xabcd;
	if (args->depth)
		bpf_throw(args->cookie);
	return 3;
}

int upper_half(__u64 cookie)
{
	return cookie >> 32;
}

SEC("syscall") __success
__retval(5)
int always(void *ctx)
{
	bpf_throw(5);
	return 0;
}

SEC("syscall") __success
__input(throws, "ctx=070000000900000001000000ffffffff")
__retval_of(throws, 7)
__input(calm, "ctx=070000000900000000000000ffffffff")
__retval_of(calm, 4)
int from_context(struct args *args)
{
	return thrower(args) + 1;
}

SEC("syscall") __success
__exception_cb(upper_half)
__input(throws, "ctx=070000000900000001000000ffffffff")
__retval_of(throws, 9)
__input(calm, "ctx=070000000900000000000000ffffffff")
__retval_of(calm, 4)
int with_callback(struct args *args)
{
	return thrower(args) + 1;
}

char LICENSE[] SEC("license") = "GPL";
