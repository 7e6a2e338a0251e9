// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bug C: a throw inside a loop, met before the verifier has taken a checkpoint in the loop. Its
 * book on loops takes it that paths end at an exit; it has no entry for this one, and says that it
 * is at fault itself.
 */
#include "exceptions.h"

#define WARNS              \
	__success          \
	__hook("test_run") \
	__crashes("bug C: the verifier warns of a bug in itself")

/* What stays a loop for clang, too. */
#define FOUR_TIMES _Pragma("clang loop unroll(disable)") for (int i = 0; i < 4; i++)

SEC("?tc") WARNS __retval(4)
int in_main(struct __sk_buff *skb)
{
	__u32 rounds = 0;

	FOUR_TIMES
	{
		bpf_assert_with(skb->mark < 100, 77);
		rounds++;
	}
	return rounds;
}

static __noinline __u32 checked(__u32 mark)
{
	barrier_var(mark);
	if (mark >= 100)
		bpf_throw(77);
	return 1;
}

SEC("?tc") WARNS __retval(4)
int in_function(struct __sk_buff *skb)
{
	__u32 rounds = 0;

	FOUR_TIMES
	{
		rounds += checked(skb->mark);
	}
	return rounds;
}

char LICENSE[] SEC("license") = "GPL";
