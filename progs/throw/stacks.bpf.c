// SPDX-License-Identifier: GPL-2.0-only
/* Stacks in use at every level: 512 bytes over eight frames, and 512 each for main and callback. */
#include "exceptions.h"

__u64 sum;

/* Fill 64 bytes of stack, call, and use them afterwards, which never comes to pass. */
#define LEVEL(n, next)                            \
	static __noinline __u64 level##n(__u64 x) \
	{                                         \
		volatile __u64 slots[7];          \
                                                  \
		for (int i = 0; i < 7; i++)       \
			slots[i] = x + i;         \
		sum += slots[6];                  \
		return next(x + 10) + slots[0];   \
	}

static __noinline __u64 bottom(__u64 x)
{
	volatile __u64 slots[8];

	for (int i = 0; i < 8; i++)
		slots[i] = x + i;
	sum += slots[7];
	bpf_throw(slots[7]);
	return slots[0];
}
LEVEL(6, bottom)
LEVEL(5, level6)
LEVEL(4, level5)
LEVEL(3, level4)
LEVEL(2, level3)
LEVEL(1, level2)

SEC("tc") __success
__retval(67)
__hook("test_run")
__global_is(sum, 253)
int eight_frames(struct __sk_buff *skb)
{
	volatile __u64 slots[8];

	for (int i = 0; i < 8; i++)
		slots[i] = i;
	return level1(slots[0]) + slots[7];
}

/* Both ends of all the stack that one function may have. */
static __always_inline __u64 use(__u64 *slots, __u64 x)
{
	slots[0] = x;
	slots[62] = x + 62;
	/* Or clang would give up what lies between. */
	asm volatile("" ::"r"(slots) : "memory");
	return slots[0] + slots[62];
}

int large_callback(__u64 cookie)
{
	__u64 slots[63];

	return use(slots, cookie);
}

SEC("tc") __success
__retval(194)
__hook("test_run")
__exception_cb(large_callback)
int large_main(struct __sk_buff *skb)
{
	__u64 slots[63];

	bpf_throw(use(slots, 2));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
