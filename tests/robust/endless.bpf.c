// SPDX-License-Identifier: GPL-2.0-only
/* Programs that a kernel accepts and that never end, or not in the life of a test. */
#include "exceptions.h"

#define MANY (1 << 23)

static int inner(__u64 index, void *ctx)
{
	return 0;
}

static int outer(__u64 index, void *ctx)
{
	bpf_loop(MANY, inner, NULL, 0);
	return 0;
}

/*
 * 2^46 rounds without a chance to schedule: the processor does nothing else any more. The simulator
 * knows nothing of IPsec, and so is spared its share of the rounds.
 */
SEC("tc") __success __hook("test_run") __crashes("it never ends")
int forever(struct __sk_buff *skb)
{
	struct bpf_xfrm_state state;

	bpf_skb_get_xfrm_state(skb, 0, &state, sizeof(state), 0);
	bpf_loop(MANY, outer, NULL, 0);
	return 0;
}

SEC("tc") __retval(7) __hook("test_run")
int after(struct __sk_buff *skb)
{
	return 7;
}

char LICENSE[] SEC("license") = "GPL";
