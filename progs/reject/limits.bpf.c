// SPDX-License-Identifier: GPL-2.0-only
/* How deep calls may go above a throw, and how much stack they may use. */
#include "verdict.h"

/* The barrier keeps clang from giving up what is not used of an array. */
#define USE(slots)	 asm volatile("" ::"r"(slots) : "memory")
#define TOO_LARGE(calls) REFUSED(13, "combined stack size of " #calls " calls is")

#define LEAF(name, linkage)                   \
	linkage __noinline int name##1(int x) \
	{                                     \
		barrier_var(x);               \
		bpf_throw(x);                 \
		return x;                     \
	}
#define LEVEL(name, linkage, n, next)         \
	linkage __noinline int name##n(int x) \
	{                                     \
		barrier_var(x);               \
		return name##next(x + 1) + n; \
	}
LEAF(down, static)
LEVEL(down, static, 2, 1)
LEVEL(down, static, 3, 2)
LEVEL(down, static, 4, 3)
LEVEL(down, static, 5, 4)
LEVEL(down, static, 6, 5)
LEVEL(down, static, 7, 6)
LEVEL(down, static, 8, 7)
LEVEL(down, static, 9, 8)
LEVEL(down, static, 10, 9)
LEVEL(down, static, 11, 10)
LEVEL(down, static, 12, 11)
LEVEL(down, static, 13, 12)
LEVEL(down, static, 14, 13)
LEVEL(down, static, 15, 14)

/* Eight frames with main until 6.18, sixteen since 7.3. */
#define TOO_DEEP_BEFORE_7_3          \
	__on("6.12,6.18", "failure") \
	__on("6.12,6.18", "errno=7") \
	__on("6.12,6.18", "msg=1=the call stack of {{[0-9]+}} frames is too deep")

NEAR_MISS(106)
int seven_static(struct __sk_buff *skb)
{
	return down7(100) + 1;
}

NEAR_MISS(107)
TOO_DEEP_BEFORE_7_3
int eight_static(struct __sk_buff *skb)
{
	return down8(100) + 1;
}

NEAR_MISS(114)
TOO_DEEP_BEFORE_7_3
int fifteen_static(struct __sk_buff *skb)
{
	return down15(100) + 1;
}

/* The callback starts at the top again. */
static __noinline int up1(int x)
{
	barrier_var(x);
	return x;
}
LEVEL(up, static, 2, 1)
LEVEL(up, static, 3, 2)
LEVEL(up, static, 4, 3)
LEVEL(up, static, 5, 4)
LEVEL(up, static, 6, 5)
LEVEL(up, static, 7, 6)
LEVEL(up, static, 8, 7)

int deep_callback(__u64 cookie)
{
	return up7(cookie);
}

int too_deep_callback(__u64 cookie)
{
	return up8(cookie);
}

NEAR_MISS(139)
__exception_cb(deep_callback)
int seven_below_callback(struct __sk_buff *skb)
{
	return down7(100) + 1;
}

NEAR_MISS(49)
TOO_DEEP_BEFORE_7_3
__exception_cb(too_deep_callback)
int eight_below_callback(struct __sk_buff *skb)
{
	bpf_throw(7);
	return 0;
}

/* ---- recursion ---- */

static __noinline int recurses(int x)
{
	int value = 0;

	barrier_var(x);
	if (x > 10)
		bpf_throw(x);
	if (x > 5)
		value = recurses(x - 1);
	barrier_var(value);
	return value;
}

REFUSED(22, "recursive call from recurses() to recurses()")
__on("6.12,6.18", "errno=7")
__on("6.12,6.18", "msg=1=the call stack of")
int recursion(struct __sk_buff *skb)
{
	return recurses(skb->len);
}

/* ---- stack ---- */

static __noinline int uses_256(__u64 x)
{
	__u64 slots[32];

	USE(slots);
	slots[0] = x;
	USE(slots);
	bpf_throw(slots[0]);
	return slots[0];
}

static __noinline int uses_264(__u64 x)
{
	__u64 slots[33];

	USE(slots);
	slots[0] = x;
	USE(slots);
	bpf_throw(slots[0]);
	return slots[0];
}

static __noinline int uses_8(__u64 x)
{
	__u64 slot = x;

	USE(&slot);
	bpf_throw(slot);
	return 0;
}

static __noinline int uses_nothing(__u64 x)
{
	barrier_var(x);
	bpf_throw(x);
	return 0;
}

__noinline int uses_264_global(__u64 x)
{
	return uses_264(x);
}

NEAR_MISS(64)
int two_times_256(struct __sk_buff *skb)
{
	__u64 slots[32];

	USE(slots);
	slots[0] = skb->len;
	USE(slots);
	return uses_256(slots[0]) + slots[0];
}

TOO_LARGE(2)
int just_above(struct __sk_buff *skb)
{
	__u64 slots[32];

	USE(slots);
	slots[0] = skb->len;
	USE(slots);
	return uses_264(slots[0]) + slots[0];
}

TOO_LARGE(3)
int over_a_global(struct __sk_buff *skb)
{
	__u64 slots[32];

	USE(slots);
	slots[0] = skb->len;
	USE(slots);
	return uses_264_global(slots[0]) + slots[0];
}

/* A function without a stack takes none. */
NEAR_MISS(64)
int full_main(struct __sk_buff *skb)
{
	__u64 slots[63];

	USE(slots);
	slots[0] = skb->len;
	USE(slots);
	return uses_nothing(slots[0]) + slots[0];
}

/* One that has any takes 16 bytes. */
TOO_LARGE(2)
int full_main_and_a_number(struct __sk_buff *skb)
{
	__u64 slots[63];

	USE(slots);
	slots[0] = skb->len;
	USE(slots);
	return uses_8(slots[0]) + slots[0];
}

NEAR_MISS(64)
int full_main_throws(struct __sk_buff *skb)
{
	__u64 slots[63];

	USE(slots);
	slots[0] = skb->len;
	USE(slots);
	bpf_throw(slots[0]);
	return slots[0];
}

static __noinline int quiet_264(__u64 x)
{
	__u64 slots[33];

	USE(slots);
	slots[0] = x;
	USE(slots);
	return slots[0];
}

int large_callback(__u64 cookie)
{
	__u64 slots[32];

	USE(slots);
	slots[0] = cookie;
	USE(slots);
	return quiet_264(slots[0]) + slots[0];
}

TOO_LARGE(2)
__exception_cb(large_callback)
int stack_of_callback(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

/* One function's own: 512 bytes. */
int huge_callback(__u64 cookie)
{
	int value;

	asm volatile("*(u64 *)(r10 - 520) = r1; %[value] = 1;" : [value] "=r"(value) : : "memory");
	return value;
}

REFUSED(13, "invalid write to stack R10 off=-520 size=8")
__exception_cb(huge_callback)
int callback_of_520(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
