// SPDX-License-Identifier: GPL-2.0-only
/* A callback that reads and writes maps and globals. */
#include "exceptions.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u64);
	__type(value, __u64);
} cookies SEC(".maps");

__u64 last_cookie;
__u32 throws = 40;

int count(__u64 cookie)
{
	__u32 key = cookie & 3;
	__u64 *slot = bpf_map_lookup_elem(&counts, &key);

	if (!slot)
		return -1;
	*slot += 1;
	bpf_map_update_elem(&cookies, &cookie, slot, BPF_ANY);
	last_cookie = cookie;
	throws++;
	return *slot;
}

SEC("tc")
__success
__retval(3)
__repeat(3)
__hook("test_run")
__exception_cb(count)
__global_is(last_cookie, 0x500000002ULL)
__global_is(throws, 43)
int counts_throws(struct __sk_buff *skb)
{
	bpf_throw(0x500000002ULL);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
