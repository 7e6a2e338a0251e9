// SPDX-License-Identifier: GPL-2.0-only
/* A function below main throws always, never, or when the first byte of the packet says so. */
#include "exceptions.h"

int after;

static __noinline int in_static(__u32 when)
{
	barrier_var(when);
	if (when)
		bpf_throw(40);
	after++;
	return 4;
}

__noinline int in_global(__u32 when)
{
	barrier_var(when);
	if (when)
		bpf_throw(50);
	after++;
	return 5;
}

static __noinline __u32 first_byte(struct __sk_buff *skb)
{
	__u8 byte = 0;

	bpf_skb_load_bytes(skb, 0, &byte, 1);
	return byte;
}

SEC("tc") __success
__hook("test_run")
__retval(40)
__global_is(after, 0)
int static_always(struct __sk_buff *skb)
{
	return in_static(1) + 100;
}

SEC("tc") __success
__hook("test_run")
__retval(104)
__global_is(after, 1)
int static_never(struct __sk_buff *skb)
{
	return in_static(0) + 100;
}

SEC("tc") __success
__hook("test_run")
__input(zero, "hex=000102030405060708090a0b88b545")
__retval_of(zero, 104)
__input(one, "hex=010102030405060708090a0b88b545")
__retval_of(one, 40)
int static_by_data(struct __sk_buff *skb)
{
	return in_static(first_byte(skb)) + 100;
}

SEC("tc") __success
__hook("test_run")
__retval(50)
__global_is(after, 0)
int global_always(struct __sk_buff *skb)
{
	return in_global(1) + 100;
}

SEC("tc") __success
__hook("test_run")
__retval(105)
__global_is(after, 1)
int global_never(struct __sk_buff *skb)
{
	return in_global(0) + 100;
}

SEC("tc") __success
__hook("test_run")
__input(zero, "hex=000102030405060708090a0b88b545")
__retval_of(zero, 105)
__input(one, "hex=010102030405060708090a0b88b545")
__retval_of(one, 50)
int global_by_data(struct __sk_buff *skb)
{
	return in_global(first_byte(skb)) + 100;
}

char LICENSE[] SEC("license") = "GPL";
