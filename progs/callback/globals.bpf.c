// SPDX-License-Identifier: GPL-2.0-only
/* Callbacks that read and write globals: zeroed, initialised, in a section of their own. */
#include "exceptions.h"

__u32 zeroed;
__u32 initialised = 5;
__u64 apart SEC(".data.apart") = 0x1122334455667788ULL;
const volatile __u32 constant = 1000;
__u8 bytes[8];

int uses_globals(__u64 cookie)
{
	zeroed = cookie;
	initialised *= 2;
	apart ^= cookie;
	bytes[cookie & 7] = 0xee;
	return constant + initialised;
}

SEC("tc") __success
__hook("test_run")
__exception_cb(uses_globals)
__retval(1020)
__repeat(2)
__global_is(zeroed, 6)
__global_is(initialised, 20)
__global_is(apart, 0x1122334455667788)
__global_is(bytes, 0x00ee000000000000)
int globals(struct __sk_buff *skb)
{
	bpf_throw(6);
	return 0;
}

SEC("tc") __success
__hook("test_run")
__exception_cb(uses_globals)
__retval(1010)
__global_is(zeroed, 0x0)
__global_is(apart, 0x1122334c55667788)
int truncates(struct __sk_buff *skb)
{
	bpf_throw(0x800000000ULL << 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
