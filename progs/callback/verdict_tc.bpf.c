// SPDX-License-Identifier: GPL-2.0-only
/* A callback that turns error numbers into tc verdicts, as a real program would; every hook. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

__u32 errors[4];

int verdict_of(__u64 error)
{
	errors[error & 3]++;
	return error == 1 ? TC_ACT_SHOT : TC_ACT_OK;
}

__noinline int check(__u32 len)
{
	barrier_var(len);
	if (len < 40)
		bpf_throw(1);
	if (len > 100)
		bpf_throw(2);
	return 0;
}

SEC("tc") __success
__exception_cb(verdict_of)
__input(short, "eth ipv4")
__retval_of(short, TC_ACT_SHOT)
__input(long, "eth ipv4 udp payload=100")
__retval_of(long, TC_ACT_OK)
__input(good, "eth ipv4 udp payload=22")
__retval_of(good, TC_ACT_UNSPEC)
int verdicts(struct __sk_buff *skb)
{
	check(skb->len);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
