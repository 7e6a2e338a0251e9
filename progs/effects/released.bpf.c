// SPDX-License-Identifier: GPL-2.0-only
/* What was taken and given back before the throw: a record in a ring buffer, a lock. */
#include "exceptions.h"

struct guarded {
	struct bpf_spin_lock lock;
	__u32 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guarded);
} table SEC(".maps");

static __noinline int submit(__u64 value)
{
	__u64 *entry = bpf_ringbuf_reserve(&events, sizeof(*entry), 0);

	bpf_assert_with(entry, 90);
	*entry = value;
	if (value & 1)
		bpf_ringbuf_discard(entry, 0);
	else
		bpf_ringbuf_submit(entry, 0);
	bpf_throw(value);
	return 0;
}

SEC("tc") __success
__repeat(3)
__hook("test_run")
__input(even, "eth ipv4 udp payload=20")
__retval_of(even, 62)
__input(odd, "eth ipv4 udp payload=21")
__retval_of(odd, 63)
int record(struct __sk_buff *skb)
{
	return submit(skb->len) + 1;
}

SEC("tc") __success
__retval(64)
__hook("test_run")
int lock(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct guarded *guarded = bpf_map_lookup_elem(&table, &key);

	bpf_assert_with(guarded, 91);
	bpf_spin_lock(&guarded->lock);
	guarded->value = skb->len;
	bpf_spin_unlock(&guarded->lock);
	bpf_throw(guarded->value);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
