// SPDX-License-Identifier: GPL-2.0-only
/* A callback that looks up, updates and deletes in a hash map filled before the throw. */
#include "exceptions.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

int edits(__u64 cookie)
{
	__u32 one = 1, two = 2, three = 3;
	__u64 *found = bpf_map_lookup_elem(&table, &one);

	if (!found)
		return -1;
	cookie += *found;
	if (bpf_map_delete_elem(&table, &two))
		return -2;
	if (!bpf_map_delete_elem(&table, &three))
		return -3;
	if (bpf_map_update_elem(&table, &three, &cookie, BPF_NOEXIST))
		return -4;
	return cookie;
}

SEC("tc") __success
__retval(142)
__hook("test_run")
__exception_cb(edits)
int edit(struct __sk_buff *skb)
{
	__u32 one = 1, two = 2;
	__u64 value = 100;

	bpf_map_update_elem(&table, &one, &value, BPF_ANY);
	bpf_map_update_elem(&table, &two, &value, BPF_ANY);
	bpf_throw(42);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
