// SPDX-License-Identifier: GPL-2.0-only
/* Parameters and values of exception callbacks: one integer each way. */
#include "verdict.h"

enum kind { PLAIN, FANCY = 5 };

struct pair {
	__u32 first, second;
};

int takes_int_pointer(int *cookie)
{
	return 1;
}

int takes_void_pointer(void *cookie)
{
	return 1;
}

int takes_three(__u64 cookie, __u64 sp, __u64 bp)
{
	return cookie;
}

int takes_context_tag(struct __sk_buff *skb __arg_ctx)
{
	return 1;
}

struct pair *returns_structure_pointer(__u64 cookie)
{
	return 0;
}

/* What is wrong with the value is said before what is wrong with the parameter. */
void *returns_and_takes_pointer(void *cookie)
{
	return 0;
}

/* Nobody throws: the callback is verified all the same. */
void returns_nothing_unused(__u64 cookie)
{
	barrier_var(cookie);
}

#define PROGRAM(name, callback)         \
	__exception_cb(callback)        \
	int name(struct __sk_buff *skb) \
	{                               \
		bpf_throw(0x100000105); \
		return 0;               \
	}
#define ONE_INTEGER "exception cb only supports single integer argument"

REFUSED(22, ONE_INTEGER)
PROGRAM(int_pointer, takes_int_pointer)
REFUSED(22, "arg#0 reference type('UNKNOWN ') size cannot be determined")
PROGRAM(void_pointer, takes_void_pointer)
REFUSED(22, ONE_INTEGER)
PROGRAM(three, takes_three)
REFUSED(22, ONE_INTEGER)
PROGRAM(context_tag, takes_context_tag)

#define NO_SCALAR                            \
	REFUSED(22, "doesn't return scalar") \
	__on("7.3", "errno=95")              \
	__on("7.3", "msg=1=return value not void or scalar")
NO_SCALAR
PROGRAM(structure_pointer, returns_structure_pointer)
NO_SCALAR
PROGRAM(both_pointers, returns_and_takes_pointer)

REFUSED(22, "doesn't return scalar")
__on("7.3", "msg=1=exception cb cannot return void")
__exception_cb(returns_nothing_unused)
int unused(struct __sk_buff *skb)
{
	return 0;
}

int takes_u64(__u64 cookie)
{
	return cookie >> 32;
}

int takes_int(int cookie)
{
	return cookie;
}

int takes_enum(enum kind cookie)
{
	return cookie + 1;
}

int takes_bool(_Bool cookie)
{
	return 9;
}

int takes_s8(signed char cookie)
{
	return 8;
}

__u64 returns_u64(__u64 cookie)
{
	return cookie + 2;
}

_Bool returns_bool(__u64 cookie)
{
	return cookie;
}

enum kind returns_enum(__u64 cookie)
{
	return FANCY;
}

unsigned char returns_u8(__u64 cookie)
{
	return 7;
}

NEAR_MISS(1)
PROGRAM(good_u64, takes_u64)
NEAR_MISS(0x105)
PROGRAM(good_int, takes_int)
NEAR_MISS(0x106)
PROGRAM(good_enum, takes_enum)
NEAR_MISS(9)
PROGRAM(good_bool, takes_bool)
NEAR_MISS(8)
PROGRAM(good_s8, takes_s8)
NEAR_MISS(0x107)
PROGRAM(good_returns_u64, returns_u64)
NEAR_MISS(1)
PROGRAM(good_returns_bool, returns_bool)
NEAR_MISS(5)
PROGRAM(good_returns_enum, returns_enum)
NEAR_MISS(7)
PROGRAM(good_returns_u8, returns_u8)

char LICENSE[] SEC("license") = "GPL";
