// SPDX-License-Identifier: GPL-2.0-only
/* A freplace program that throws: its own callback, and its value is that of the replaced call. */
#include "exceptions.h"

int targets_calls;

int targets(__u64 cookie)
{
	targets_calls++;
	return cookie + 1000;
}

int replacements(__u64 cookie)
{
	return cookie + 2000;
}

__noinline int replaced(int x)
{
	barrier_var(x);
	return x + 1;
}

SEC("?freplace/replaced") __target
int throws(int x)
{
	bpf_throw(300 + x);
	return 0;
}

SEC("?freplace/replaced") __target
__exception_cb(replacements)
int throws_with_callback(int x)
{
	bpf_throw(300 + x);
	return 0;
}

SEC("tc") __success
__retval(7)
__hook("test_run")
int not_replaced(struct __sk_buff *skb)
{
	return replaced(5) + 1;
}

SEC("tc") __success
__retval(306)
__hook("test_run")
__with(throws)
int value_of_the_call(struct __sk_buff *skb)
{
	return replaced(5) + 1;
}

SEC("tc") __success
__retval(306)
__hook("test_run")
__with(throws)
__exception_cb(targets)
__global_is(targets_calls, 0)
int targets_callback_stays_out(struct __sk_buff *skb)
{
	return replaced(5) + 1;
}

SEC("tc") __success
__retval(2306)
__hook("test_run")
__with(throws_with_callback)
int own_callback(struct __sk_buff *skb)
{
	return replaced(5) + 1;
}

SEC("tc") __success
__retval(1305)
__hook("test_run")
__with(throws)
__exception_cb(targets)
__global_is(targets_calls, 1)
int thrown_again(struct __sk_buff *skb)
{
	bpf_throw(replaced(5));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
