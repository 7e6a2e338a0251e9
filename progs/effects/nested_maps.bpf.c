// SPDX-License-Identifier: GPL-2.0-only
/* A throw between a record that went out and the map of a map that is not there: the record is
 * out, and what inner maps counted before stays. */
#include "exceptions.h"
#include <linux/pkt_cls.h>

struct counter {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} of_small SEC(".maps"), of_large SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct counter);
} by_size SEC(".maps") = {
	.values = {&of_small, &of_large},
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} lengths SEC(".maps");

__u64 waiting;

static __noinline void count(__u32 size, __u32 len)
{
	void *counter = bpf_map_lookup_elem(&by_size, &size);
	__u32 zero = 0;
	__u64 *bytes;

	if (!counter)
		bpf_throw(TC_ACT_SHOT);
	bytes = bpf_map_lookup_elem(counter, &zero);
	if (bytes)
		*bytes += len;
}

SEC("tc") __success
__repeat(2)
__hook("test_run")
__input(small, "eth ipv4 udp payload=18")
__retval_of(small, TC_ACT_OK)
__input(large, "eth ipv4 udp payload=200")
__retval_of(large, TC_ACT_OK)
__input(huge, "eth ipv4 udp payload=400")
__retval_of(huge, TC_ACT_SHOT)
__global_is(waiting, 32)
int records(struct __sk_buff *skb)
{
	__u32 len = skb->len;

	if (bpf_ringbuf_output(&lengths, &len, sizeof(len), 0))
		return TC_ACT_STOLEN;
	waiting = bpf_ringbuf_query(&lengths, BPF_RB_AVAIL_DATA);
	count(len / 150, len);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
