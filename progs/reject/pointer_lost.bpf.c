// SPDX-License-Identifier: GPL-2.0-only
/* The only pointer to an object is gone when the program throws: nothing uses it afterwards. */
#include "exceptions.h"
#include <bpf/bpf_core_read.h>

extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __weak __ksym;

struct session {
	__u64 id;
};

SEC("tc") __failure
__errno(22)
__msg("Unreleased reference")
int refused(struct __sk_buff *skb)
{
	struct session *session;

	session = bpf_obj_new_impl(bpf_core_type_id_local(struct session), NULL);
	if (!session)
		return 0;
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
