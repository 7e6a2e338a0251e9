// SPDX-License-Identifier: GPL-2.0-only
/* A freplace program in place of the main function: what it throws is what the hook gets. */
#include "exceptions.h"

int ours(__u64 cookie)
{
	return cookie + 5;
}

SEC("?freplace/main_function") __target
int throws(struct __sk_buff *skb)
{
	bpf_throw(55);
	return 0;
}

SEC("tc") __success
__retval(55)
__hook("test_run")
__with(throws)
__exception_cb(ours)
int main_function(struct __sk_buff *skb)
{
	if (skb->len)
		bpf_throw(3);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
