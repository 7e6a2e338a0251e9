// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bug A: a function that turns out to be dead is removed, the functions behind it move up, and the
 * number of the exception callback stays what it was.
 */
#include "exceptions.h"

/* Read-only when the verifier runs: it knows that nobody enters the branches below. */
const volatile __u32 feature;

static __noinline __u64 unused(__u64 x)
{
	barrier_var(x);
	return x * 3;
}

static __noinline __u64 kept(__u64 x)
{
	barrier_var(x);
	return x + 40;
}

static __noinline __u64 doubled(__u64 x)
{
	barrier_var(x);
	return x * 2;
}

int last(__u64 cookie)
{
	return cookie + 1;
}

/* Its function is loaded behind it, so the old number still names a function: a wrong one. */
int not_last(__u64 cookie)
{
	return doubled(cookie) + 1;
}

#define CRASHES            \
	__success          \
	__hook("test_run") \
	__crashes("bug A: the callback's number is stale after a function has been removed")

/*
 * The old number is the one behind the last function: the load reads past the end of a table. Three
 * functions are left, so that what it reads is the zeroed rest of the table's 32 bytes.
 */
SEC("?tc") CRASHES __retval(42)
__exception_cb(last)
int past_the_end(struct __sk_buff *skb)
{
	if (feature)
		return unused(skb->len);
	bpf_throw(kept(1));
	return 0;
}

/* The wrong function returns to bpf_throw, which nothing may do. */
SEC("?tc") CRASHES __retval(83)
__exception_cb(not_last)
int wrong_function(struct __sk_buff *skb)
{
	if (feature)
		return unused(skb->len);
	bpf_throw(41);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
