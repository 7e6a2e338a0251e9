// SPDX-License-Identifier: GPL-2.0-only
/* The exception callback must exist. */
#include "exceptions.h"

SEC("tc") __failure
__errno(2)
__msg("{{cannot find exception callback|could not be found in BTF}}")
__exception_cb(nowhere)
int refused(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
