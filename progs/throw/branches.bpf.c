// SPDX-License-Identifier: GPL-2.0-only
/* Several throw sites in the branches of several functions: the packet decides who throws. */
#include "exceptions.h"

static __noinline int middle(__u32 len)
{
	barrier_var(len);
	if (len & 1)
		bpf_throw(11);
	if (len > 300)
		bpf_throw(12);
	return len & 2;
}

__noinline int outer(__u32 len)
{
	int two;

	if (len < 60)
		bpf_throw(10);
	two = middle(len);
	if (two)
		bpf_throw(13);
	return 20;
}

SEC("tc")
__success
__hook("test_run")
__input(short, "eth ipv4 udp payload=10")
__retval_of(short, 10)
__input(odd, "eth ipv4 udp payload=101")
__retval_of(odd, 11)
__input(long, "eth ipv4 udp payload=402")
__retval_of(long, 12)
__input(two, "eth ipv4 udp payload=28")
__retval_of(two, 13)
__input(none, "eth ipv4 udp payload=30")
__retval_of(none, 21)
int branches(struct __sk_buff *skb)
{
	return outer(skb->len) + 1;
}

char LICENSE[] SEC("license") = "GPL";
