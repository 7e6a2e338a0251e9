/* SPDX-License-Identifier: GPL-2.0-only */
/* A number out of the packet, an assertion about it, and a use of what was learnt. */
#ifndef BPFTHROW_KNOWN_H
#define BPFTHROW_KNOWN_H

#include "exceptions.h"

#define FRAME "eth ethertype=0x88b5 hex="

volatile __u64 seen;

/*
 * `held` and `failed`: the number's bytes as they lie in the packet. The number is in a register
 * behind the assertion, because it is stored there.
 */
#define KNOWN(name, type, assertion, held, failed)                                     \
	SEC("tc") __success                                                            \
	__hook("test_run")                                                             \
	__input(holds, FRAME held)                                                     \
	__retval_of(holds, 1)                                                          \
	__input(fails, FRAME failed)                                                   \
	__retval_of(fails, 9)                                                          \
	int name(struct __sk_buff *skb)                                                \
	{                                                                              \
		type loaded = 0, x;                                                    \
                                                                                       \
		bpf_assert_with(!bpf_skb_load_bytes(skb, 14, &loaded, sizeof(x)), 99); \
		x = loaded;                                                            \
		assertion;                                                             \
		seen = x;                                                              \
		return 1;                                                              \
	}

#endif
