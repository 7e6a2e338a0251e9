// SPDX-License-Identifier: GPL-2.0-only
/* What attaches to claimed.bpf.c, another object; claimed_ext.expect.toml says to what. */
#include "exceptions.h"

SEC("?freplace")
int replaces(struct __sk_buff *skb)
{
	return 40;
}

SEC("?freplace")
int throws_instead(struct __sk_buff *skb)
{
	bpf_throw(41);
	return 0;
}

SEC("?fexit")
int watches(void *ctx)
{
	return 0;
}

SEC("?fmod_ret")
int modifies(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
