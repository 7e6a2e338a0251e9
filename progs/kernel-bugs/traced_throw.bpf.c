// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bugs E and F: the kernel's own tracers keep the return addresses of what they trace on a stack
 * of their own, which a throw does not unwind: the next function to return gets a wrong one.
 */
#include "exceptions.h"

#define CRASHES(why)       \
	__success          \
	__hook("test_run") \
	__retval(42)       \
	__crashes(why)

/* Of the kernel's functions that run the program, the one that is called for every tc program. */
SEC("?tc")
CRASHES("bug E: kretprobe on bpf_throw and on a function above it") __traced("kretprobe:bpf_throw")
__traced("kretprobe:bpf_prog_test_run_skb")
int kretprobe(struct __sk_buff *skb)
{
	bpf_throw(42);
	return 0;
}

SEC("?tc")
CRASHES("bug F: the function graph of bpf_throw and a function above it")
__traced("function_graph:bpf_throw")
__traced("function_graph:bpf_prog_test_run_skb")
int function_graph(struct __sk_buff *skb)
{
	bpf_throw(42);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
