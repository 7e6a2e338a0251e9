// SPDX-License-Identifier: GPL-2.0-only
/* What was written to maps before the throw stays written; every tc hook. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} bytes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} lengths SEC(".maps");

static __noinline void count(__u32 key, __u32 len)
{
	__u64 *slot = bpf_map_lookup_elem(&bytes, &key);

	if (slot)
		*slot += len;
	bpf_map_update_elem(&lengths, &len, &key, BPF_ANY);
	if (key)
		bpf_throw(TC_ACT_SHOT);
}

SEC("tc") __success
__repeat(2)
__input(small, "eth ipv4 udp payload=18")
__retval_of(small, TC_ACT_OK)
__input(large, "eth ipv4 udp payload=400")
__retval_of(large, TC_ACT_SHOT)
int counts(struct __sk_buff *skb)
{
	count(skb->len > 200, skb->len);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
