// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exception callbacks make no tail calls and load nothing by LD_ABS: they have no context for it,
 * and whether such a call could ever be reached is not asked.
 */
#include "verdict.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

/* What never happens, and the verifier knows it. */
#define NEVER(what)                \
	do {                       \
		__u64 zero = 0;    \
                                   \
		barrier_var(zero); \
		if (zero)          \
			what;      \
	} while (0)
#define TAIL_CALL(ctx) bpf_tail_call((void *)(ctx), &targets, 0)
/* The first byte of the packet, as classic BPF has it: the context is expected in R6. */
#define LOAD_ABSOLUTE(ctx)                         \
	asm volatile("r6 = %0; r0 = *(u8 *)skb[0]" \
		     :                             \
		     : "r"(ctx)                    \
		     : "r0", "r1", "r2", "r3", "r4", "r5", "r6")

static __noinline int tails_never(__u64 x)
{
	barrier_var(x);
	NEVER(TAIL_CALL(x));
	return x;
}

static __noinline int loads_never(__u64 x)
{
	barrier_var(x);
	NEVER(LOAD_ABSOLUTE(x));
	return x;
}

int tails(__u64 cookie)
{
	TAIL_CALL(cookie);
	return 1;
}

int calls_what_tails(__u64 cookie)
{
	return tails_never(cookie);
}

int tails_itself_never(__u64 cookie)
{
	NEVER(TAIL_CALL(cookie));
	return cookie + 1;
}

int calls_what_loads(__u64 cookie)
{
	return loads_never(cookie);
}

int loads_itself_never(__u64 cookie)
{
	NEVER(LOAD_ABSOLUTE(cookie));
	return cookie + 1;
}

int fine(__u64 cookie)
{
	return cookie + 1;
}

#define THROWER(name, callback)         \
	__exception_cb(callback)        \
	int name(struct __sk_buff *skb) \
	{                               \
		bpf_throw(3);           \
		return 0;               \
	}

REFUSED(13, "R1 type=scalar expected=ctx")
THROWER(cookie_is_no_context, tails)

/* Dead, and in a function that the callback calls. */
REFUSED(22, "cannot tail call within exception cb")
__on("7.3", "msg=1=cannot tail call within callback")
THROWER(in_function_of_callback, calls_what_tails)

REFUSED(22, "cannot use BPF_LD_[ABS|IND] within callback")
__on("6.12,6.18", "success")
__hook("load")
THROWER(load_in_function_of_callback, calls_what_loads)

REFUSED(22, "cannot use BPF_LD_[ABS|IND] within callback")
__on("6.12,6.18", "success")
__hook("load")
THROWER(load_in_callback, loads_itself_never)

/* Dead, and in the callback itself: it goes away with the branch. */
NEAR_MISS(4)
THROWER(never_in_callback, tails_itself_never)

/* The slot is empty, so the call falls through, and the program throws. */
NEAR_MISS(4)
__exception_cb(fine)
int in_main(struct __sk_buff *skb)
{
	TAIL_CALL(skb);
	bpf_throw(3);
	return 0;
}

NEAR_MISS(4)
__exception_cb(fine)
int in_function_of_main(struct __sk_buff *skb)
{
	bpf_throw(tails_never(3));
	return 0;
}

NEAR_MISS(4)
__exception_cb(fine)
int load_in_main(struct __sk_buff *skb)
{
	LOAD_ABSOLUTE(skb);
	bpf_throw(3);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
