// SPDX-License-Identifier: GPL-2.0-only
/* bpf_loop() in the callback, and before the throw; its own callback may not throw. */
#include "exceptions.h"

static int add_index(__u32 index, __u64 *sum)
{
	*sum += index;
	return 0;
}

static int stop_at_three(__u32 index, __u64 *sum)
{
	*sum += 10;
	return index == 3;
}

int loops(__u64 cookie)
{
	__u64 sum = 0;

	bpf_loop(cookie, add_index, &sum, 0);
	return sum;
}

int stops(__u64 cookie)
{
	__u64 sum = 0;
	long rounds = bpf_loop(cookie, stop_at_three, &sum, 0);

	return sum + rounds;
}

SEC("tc") __success
__retval(15)
__hook("test_run")
__exception_cb(loops)
int loop_in_callback(struct __sk_buff *skb)
{
	bpf_throw(6);
	return 0;
}

SEC("tc") __success
__retval(44)
__hook("test_run")
__exception_cb(stops)
int loop_stops(struct __sk_buff *skb)
{
	bpf_throw(100);
	return 0;
}

SEC("tc") __success
__retval(31)
__hook("test_run")
int throw_after_loop(struct __sk_buff *skb)
{
	__u64 sum = 3;

	bpf_loop(8, add_index, &sum, 0);
	bpf_throw(sum);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
