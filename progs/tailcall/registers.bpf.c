// SPDX-License-Identifier: GPL-2.0-only
/*
 * Main holds values in all callee-saved registers over the call of a subprogram that tail-calls;
 * the target and its functions change them all and throw. Main must find its own ones again.
 */
#include "exceptions.h"

#define CLOBBER(value)                                                             \
	asm volatile("r6 = %[v]; r7 = %[v]; r8 = %[v]; r9 = %[v]" ::[v] "i"(value) \
		     : "r6", "r7", "r8", "r9")

static __noinline int thrower(int cookie)
{
	CLOBBER(0x2222);
	bpf_throw(cookie);
	return 0;
}

int clobbers_too(__u64 cookie)
{
	CLOBBER(0x3333);
	return cookie + 1;
}

SEC("tc") __target
int target(struct __sk_buff *skb)
{
	CLOBBER(0x1111);
	return thrower(40);
}

SEC("tc") __target
__exception_cb(clobbers_too)
int target_with_callback(struct __sk_buff *skb)
{
	CLOBBER(0x1111);
	return thrower(40);
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} jump SEC(".maps") = {.values = {[0] = (void *)&target, [1] = (void *)&target_with_callback}};

static __noinline int jump_0(struct __sk_buff *skb)
{
	int result = 1;

	barrier_var(result);
	bpf_tail_call(skb, &jump, 0);
	return result;
}

static __noinline int jump_1(struct __sk_buff *skb)
{
	int result = 1;

	barrier_var(result);
	bpf_tail_call(skb, &jump, 1);
	return result;
}

__u32 sum;

/* Four values that the compiler can keep nowhere but in R6 to R9 or on the stack. */
#define KEEPS(name, jump_n, value)                                     \
	SEC("tc") __success                                            \
	__retval(value)                                                \
	__hook("test_run")                                             \
	__global_is(sum, 10)                                           \
	int name(struct __sk_buff *skb)                                \
	{                                                              \
		__u64 a = 1, b = 2, c = 3, d = 4;                      \
		int result;                                            \
                                                                       \
		asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d)); \
		result = jump_n(skb);                                  \
		asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d)); \
		sum = a + b + c + d;                                   \
		return result + 2;                                     \
	}
KEEPS(default_callback, jump_0, 42)
KEEPS(custom_callback, jump_1, 43)

char LICENSE[] SEC("license") = "GPL";
