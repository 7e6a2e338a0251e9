// SPDX-License-Identifier: GPL-2.0-only
/* Without a callback the cookie is the value of the program, as far as the consumer is wide. */
#include "exceptions.h"

#define COOKIE(name, cookie, value)     \
	SEC("tc")                       \
	__success                       \
	__retval(value)                 \
	__hook("test_run")              \
	int name(struct __sk_buff *skb) \
	{                               \
		bpf_throw(cookie);      \
		return 99;              \
	}
COOKIE(zero, 0, 0)
COOKIE(one, 1, 1)
COOKIE(small, 64, 64)
COOKIE(minus_one, -1, -1)
COOKIE(negative, -1000, -1000)
COOKIE(int_max, 0x7fffffff, 0x7fffffff)
COOKIE(int_min, 0x80000000, 0x80000000)
COOKIE(above_32_bits, 0x100000005ULL, 5)
COOKIE(only_high_bits, 0xabcdef0000000000ULL, 0)
COOKIE(all_ones, 0xffffffffffffffffULL, 0xffffffff)

SEC("tc")
__success
__hook("test_run")
__input(bytes64, "eth ipv4 udp payload=22")
__retval_of(bytes64, 643)
__input(bytes100, "eth ipv4 udp payload=58")
__retval_of(bytes100, 1003)
int computed(struct __sk_buff *skb)
{
	bpf_throw(skb->len * 10 + 3);
	return 99;
}

char LICENSE[] SEC("license") = "GPL";
