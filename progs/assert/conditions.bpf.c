// SPDX-License-Identifier: GPL-2.0-only
/* bpf_assert() and bpf_assert_with(), also where a dangling else would go to the wrong if. */
#include "exceptions.h"

SEC("tc") __success
__hook("test_run")
__input(even, "eth ipv4 udp payload=20")
__retval_of(even, 7)
__input(odd, "eth ipv4 udp payload=21")
__retval_of(odd, 0)
int plain(struct __sk_buff *skb)
{
	bpf_assert(skb->len % 2 == 0);
	return 7;
}

SEC("tc") __success
__hook("test_run")
__input(even, "eth ipv4 udp payload=20")
__retval_of(even, 7)
__input(odd, "eth ipv4 udp payload=21")
__retval_of(odd, 63)
int with_value(struct __sk_buff *skb)
{
	bpf_assert_with(skb->len % 2 == 0, skb->len);
	return 7;
}

SEC("tc") __success
__hook("test_run")
__input(long, "eth ipv4 udp payload=301")
__retval_of(long, 7)
__input(even, "eth ipv4 udp payload=20")
__retval_of(even, 8)
__input(odd, "eth ipv4 udp payload=21")
__retval_of(odd, 1)
int dangling_else(struct __sk_buff *skb)
{
	int value = 7;

	if (skb->len < 300)
		bpf_assert_with(skb->len % 2 == 0, 1);
	else
		return value;
	if (skb->len > 400)
		bpf_assert_eq_with(skb->len, 1U, 2);
	else
		value++;
	return value;
}

char LICENSE[] SEC("license") = "GPL";
