// SPDX-License-Identifier: GPL-2.0-only
/* Callbacks whose parameter or result is narrower than a cookie. */
#include "exceptions.h"
#include <stdbool.h>

enum verdict { FIRST, SECOND = 2 };

int takes_int(int cookie)
{
	return cookie;
}

int takes_char(signed char cookie)
{
	return cookie + 1;
}

int takes_enum(enum verdict cookie)
{
	return cookie == SECOND ? 20 : 10;
}

bool gives_bool(__u64 cookie)
{
	return cookie > 5;
}

__u64 gives_u64(__u64 cookie)
{
	return cookie << 32 | 9;
}

/* The register arrives whole, whatever the type says. */
int peeks(int cookie)
{
	__u64 whole;

	asm volatile("%0 = r1" : "=r"(whole)::"r1");
	return whole >> 32;
}

#define CALLBACK(name, cb, cookie, value) \
	SEC("tc") __success               \
	__retval(value)                   \
	__hook("test_run")                \
	__exception_cb(cb)                \
	int name(struct __sk_buff *skb)   \
	{                                 \
		bpf_throw(cookie);        \
		return 99;                \
	}
CALLBACK(int_parameter, takes_int, 0x700000005ULL, 5)
CALLBACK(char_parameter, takes_char, -7, -6)
CALLBACK(enum_parameter, takes_enum, 2, 20)
CALLBACK(bool_true, gives_bool, 6, 1)
CALLBACK(bool_false, gives_bool, 5, 0)
CALLBACK(u64_result, gives_u64, 3, 9)
CALLBACK(whole_register, peeks, 0x700000005ULL, 7)

char LICENSE[] SEC("license") = "GPL";
