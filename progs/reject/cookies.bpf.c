// SPDX-License-Identifier: GPL-2.0-only
/* The cookie is a number that has a value: no pointer of any kind, and no register unwritten. */
#include "verdict.h"

#define NAKED	__attribute__((naked))
#define POINTER REFUSED(22, "R1 is not a scalar")

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

__u64 variable;

int callback(__u64 cookie)
{
	return cookie;
}

static __noinline int throws(__u64 x)
{
	barrier_var(x);
	bpf_throw(x);
	return 0;
}

static __always_inline __u64 *value_of(__u32 key)
{
	return bpf_map_lookup_elem(&table, &key);
}

POINTER
int stack(struct __sk_buff *skb)
{
	__u64 slot = skb->len;

	asm volatile("" ::"r"(&slot) : "memory");
	bpf_throw((__u64)&slot);
	return 0;
}

POINTER
int map_value(struct __sk_buff *skb)
{
	__u64 *value = value_of(0);

	if (!value)
		return 0;
	bpf_throw((__u64)value);
	return 0;
}

POINTER
int map_value_or_null(struct __sk_buff *skb)
{
	bpf_throw((__u64)value_of(0));
	return 0;
}

POINTER
int map(struct __sk_buff *skb)
{
	bpf_throw((__u64)&table);
	return 0;
}

POINTER
int global_variable(struct __sk_buff *skb)
{
	bpf_throw((__u64)&variable);
	return 0;
}

POINTER
int packet(struct __sk_buff *skb)
{
	bpf_throw(skb->data);
	return 0;
}

POINTER
int packet_end(struct __sk_buff *skb)
{
	bpf_throw(skb->data_end);
	return 0;
}

POINTER
int function(struct __sk_buff *skb)
{
	if (skb->len > 1000)
		return throws(skb->len);
	bpf_throw((__u64)throws);
	return 0;
}

/* A callback does not make it any better. */
POINTER
__exception_cb(callback)
int context_with_callback(struct __sk_buff *skb)
{
	bpf_throw((__u64)skb);
	return 0;
}

POINTER
int context_through_static(struct __sk_buff *skb)
{
	return throws((__u64)skb);
}

/* What a program begins with in r1 is its context. */
POINTER
NAKED int context_untouched(void)
{
	asm volatile("r0 = 0; call %[throw]; exit;" ::[throw] "i"(bpf_throw));
}

/* Registers of arguments have no value after a call: 7.3 takes it for an address. */
REFUSED(22, "R1 is not a scalar")
__on("7.3", "errno=13")
__on("7.3", "msg=1=variable ? access var_off={{.*}} disallowed")
NAKED int gone_after_call(void)
{
	asm volatile("r1 = 5;"
		     "call %[prandom];"
		     "call %[throw];"
		     "r0 = 0;"
		     "exit;" ::[prandom] "i"(bpf_get_prandom_u32),
		     [throw] "i"(bpf_throw));
}

/* An address that is less another one of the same kind is a number. */
NEAR_MISS(64)
int packet_length(struct __sk_buff *skb)
{
	bpf_throw((__u64)skb->data_end - (__u64)skb->data);
	return 0;
}

NEAR_MISS(0)
int what_map_value_holds(struct __sk_buff *skb)
{
	__u64 *value = value_of(0);

	if (!value)
		return 1;
	bpf_throw(*value);
	return 0;
}

/* The pointer that is known to be none is zero. */
NEAR_MISS(0)
int null_is_a_number(struct __sk_buff *skb)
{
	__u64 *value = value_of(7);

	if (value)
		return 1;
	bpf_throw((__u64)value);
	return 0;
}

NEAR_MISS(0xffffffff)
int all_bits(struct __sk_buff *skb)
{
	bpf_throw(-1ULL);
	return 0;
}

/* Kept over the call, in a register that survives it. */
NEAR_MISS(5)
NAKED int kept_over_call(void)
{
	asm volatile("r6 = 5;"
		     "call %[prandom];"
		     "r1 = r6;"
		     "call %[throw];"
		     "r0 = 0;"
		     "exit;" ::[prandom] "i"(bpf_get_prandom_u32),
		     [throw] "i"(bpf_throw));
}

char LICENSE[] SEC("license") = "GPL";
