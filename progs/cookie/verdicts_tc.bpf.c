// SPDX-License-Identifier: GPL-2.0-only
/* The verdicts of tc thrown one by one, and a value that neither clsact nor tcx knows. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

#define VERDICT(name, cookie)           \
	SEC("tc")                       \
	__success                       \
	__retval(cookie)                \
	int name(struct __sk_buff *skb) \
	{                               \
		bpf_throw(cookie);      \
		return TC_ACT_OK;       \
	}
VERDICT(unspec, TC_ACT_UNSPEC)
VERDICT(ok, TC_ACT_OK)
VERDICT(shot, TC_ACT_SHOT)
VERDICT(stolen, TC_ACT_STOLEN)
VERDICT(redirect, TC_ACT_REDIRECT)
VERDICT(unknown, 100)

char LICENSE[] SEC("license") = "GPL";
