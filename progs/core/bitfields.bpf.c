// SPDX-License-Identifier: GPL-2.0-only
/* Where the bits of struct sk_buff are, as the kernel's types say. */
#include "exceptions.h"
#include <bpf/bpf_core_read.h>

struct sk_buff {
	unsigned char pkt_type : 3;
	unsigned char ip_summed : 2;
	unsigned int len;
} __attribute__((preserve_access_index));

#define INFO(field, kind) __builtin_preserve_field_info((field), (kind))

/* Each kernel has its own answer; its image tells the simulator, and both must leave the same. */
__u64 left_shift, place_of_byte;

/* Two bits without a sign, on every kernel. */
SEC("tc") __success
__retval(62)
__hook("test_run")
int shifts(struct __sk_buff *ctx)
{
	struct sk_buff *skb = (void *)ctx;

	left_shift = INFO(skb->ip_summed, BPF_FIELD_LSHIFT_U64);
	bpf_throw(INFO(skb->ip_summed, BPF_FIELD_RSHIFT_U64) +
		  100 * INFO(skb->ip_summed, BPF_FIELD_SIGNED));
	return 0;
}

/* A load of one byte has all three bits. */
SEC("tc") __success
__retval(1)
__hook("test_run")
int place(struct __sk_buff *ctx)
{
	struct sk_buff *skb = (void *)ctx;

	place_of_byte = INFO(skb->pkt_type, BPF_FIELD_BYTE_OFFSET);
	bpf_throw(INFO(skb->pkt_type, BPF_FIELD_BYTE_SIZE));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
