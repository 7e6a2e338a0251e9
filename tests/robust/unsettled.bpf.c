// SPDX-License-Identifier: GPL-2.0-only
/* Programs whose answer is not settled, and one that wants a guest for itself. */
#include "exceptions.h"

/* Heads or tails, and the claim that it is always tails. The simulator knows nothing of IPsec. */
SEC("tc") __retval(0) __hook("test_run")
int coin(struct __sk_buff *skb)
{
	struct bpf_xfrm_state state;

	bpf_skb_get_xfrm_state(skb, 0, &state, sizeof(state), 0);
	return bpf_get_prandom_u32() & 1;
}

SEC("tc") __retval(7) __hook("test_run") __needs("fresh")
int alone(struct __sk_buff *skb)
{
	return 7;
}

char LICENSE[] SEC("license") = "GPL";
