// SPDX-License-Identifier: GPL-2.0-only
/* cgroup_skb allows 0 and 1 on ingress, and up to 3 on egress: cookies must stay in the range. */
#include "exceptions.h"

int low_bit(__u64 cookie)
{
	return cookie & 1;
}

SEC("cgroup_skb/ingress") __success
__retval(0)
int drops(struct __sk_buff *skb)
{
	bpf_throw(0);
	return 1;
}

SEC("cgroup_skb/ingress") __success
__retval(1)
int passes(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

SEC("cgroup_skb/ingress") __success
__input(even, "eth ipv4 udp payload=20")
__retval_of(even, 0)
__input(odd, "eth ipv4 udp payload=21")
__retval_of(odd, 1)
int bounded(struct __sk_buff *skb)
{
	bpf_throw(skb->len & 1);
	return 0;
}

/* Whatever is thrown, the callback stays in the range. */
SEC("cgroup_skb/ingress") __success
__retval(1)
__exception_cb(low_bit)
int callback_in_range(struct __sk_buff *skb)
{
	bpf_throw(2001);
	return 0;
}

SEC("cgroup_skb/egress") __success
__retval(3)
int egress(struct __sk_buff *skb)
{
	bpf_throw(3);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
