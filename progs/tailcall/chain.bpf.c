// SPDX-License-Identifier: GPL-2.0-only
/* A chain of three programs: only the last one's callback counts; one in the middle throws too. */
#include "exceptions.h"

__u32 visited;

int firsts(__u64 cookie)
{
	return cookie + 1000;
}

int lasts(__u64 cookie)
{
	return cookie + 3000;
}

SEC("tc") __target
int last_plain(struct __sk_buff *skb)
{
	visited = visited << 8 | 3;
	bpf_throw(33);
	return 0;
}

SEC("tc") __target
__exception_cb(lasts)
int last_with_callback(struct __sk_buff *skb)
{
	visited = visited << 8 | 3;
	bpf_throw(33);
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} third SEC(".maps") = {.values = {[0] = (void *)&last_plain, [1] = (void *)&last_with_callback}};

SEC("tc") __target
int middle_plain(struct __sk_buff *skb)
{
	visited = visited << 8 | 2;
	bpf_tail_call(skb, &third, 0);
	return 0;
}

SEC("tc") __target
int middle_with_callback(struct __sk_buff *skb)
{
	visited = visited << 8 | 2;
	bpf_tail_call(skb, &third, 1);
	return 0;
}

SEC("tc") __target
int middle_throws(struct __sk_buff *skb)
{
	visited = visited << 8 | 2;
	if (skb->len)
		bpf_throw(22);
	bpf_tail_call(skb, &third, 0);
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} second SEC(".maps") = {
	.values = {(void *)&middle_plain, (void *)&middle_with_callback, (void *)&middle_throws},
};

SEC("tc") __success
__retval(33)
__hook("test_run")
__global_is(visited, 0x010203)
int plain(struct __sk_buff *skb)
{
	visited = 1;
	bpf_tail_call(skb, &second, 0);
	return 0;
}

SEC("tc") __success
__retval(33)
__hook("test_run")
__exception_cb(firsts)
__global_is(visited, 0x010203)
int first_has_callback(struct __sk_buff *skb)
{
	visited = 1;
	bpf_tail_call(skb, &second, 0);
	bpf_throw(11);
	return 0;
}

SEC("tc") __success
__retval(3033)
__hook("test_run")
__exception_cb(firsts)
int first_and_last_have(struct __sk_buff *skb)
{
	visited = 1;
	bpf_tail_call(skb, &second, 1);
	bpf_throw(11);
	return 0;
}

SEC("tc") __success
__retval(22)
__hook("test_run")
__exception_cb(firsts)
__global_is(visited, 0x0102)
int throws_half_way(struct __sk_buff *skb)
{
	visited = 1;
	bpf_tail_call(skb, &second, 2);
	bpf_throw(11);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
