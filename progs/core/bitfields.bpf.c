// SPDX-License-Identifier: GPL-2.0-only
/* Where the bits of struct sk_buff are, as the kernel's types say; thrown, so that it can be seen.
 */
#include "exceptions.h"
#include <bpf/bpf_core_read.h>

struct sk_buff {
	unsigned char pkt_type : 3;
	unsigned char ip_summed : 2;
	unsigned int len;
} __attribute__((preserve_access_index));

#define INFO(field, kind) __builtin_preserve_field_info((field), (kind))

SEC("tc") __success
__hook("test_run")
int shifts(struct __sk_buff *ctx)
{
	struct sk_buff *skb = (void *)ctx;
	__u64 left = INFO(skb->ip_summed, BPF_FIELD_LSHIFT_U64);
	__u64 right = INFO(skb->ip_summed, BPF_FIELD_RSHIFT_U64);

	bpf_throw(left << 16 | right << 8 | INFO(skb->ip_summed, BPF_FIELD_SIGNED));
	return 0;
}

SEC("tc") __success
__hook("test_run")
int place(struct __sk_buff *ctx)
{
	struct sk_buff *skb = (void *)ctx;
	__u64 offset = INFO(skb->pkt_type, BPF_FIELD_BYTE_OFFSET);

	bpf_throw(offset << 8 | INFO(skb->pkt_type, BPF_FIELD_BYTE_SIZE));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
