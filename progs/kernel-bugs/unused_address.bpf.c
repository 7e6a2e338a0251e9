// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bug H: the address of a function that nobody calls. Nobody having seen it run, the verifier
 * removes it as dead code; the instruction that takes its address stays, and the JIT then looks
 * for a function that is not there.
 */
#include "exceptions.h"

#define WARNS              \
	__success          \
	__hook("test_run") \
	__crashes("bug H: the kernel warns of a function that it removed itself")

static __noinline int only_named(__u64 x)
{
	barrier_var(x);
	return x + 1;
}

static __noinline int throws(__u64 x)
{
	barrier_var(x);
	if (x > 7)
		bpf_throw(x);
	return 0;
}

SEC("?tc") WARNS __retval(64)
int throws_itself(struct __sk_buff *skb)
{
	void *address = only_named;

	barrier_var(address);
	bpf_throw(skb->len);
	return 0;
}

/* As before, with a function that throws itself. */
SEC("?tc") WARNS __retval(64)
int names_a_thrower(struct __sk_buff *skb)
{
	void *address = throws;

	barrier_var(address);
	bpf_throw(skb->len);
	return 0;
}

/* A call is there, and the verifier knows that it is never made. */
SEC("?tc") WARNS __retval(3)
int calls_it_never(struct __sk_buff *skb)
{
	__u64 zero = 0;
	void *address = only_named;

	barrier_var(address);
	barrier_var(zero);
	if (zero)
		return only_named(skb->len);
	bpf_throw(3);
	return 0;
}

/* The near miss: somebody calls it, so it stays. */
SEC("?tc") __success
__retval(65)
__hook("test_run")
int calls_it(struct __sk_buff *skb)
{
	void *address = only_named;

	barrier_var(address);
	bpf_throw(only_named(skb->len));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
