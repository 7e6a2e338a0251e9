// SPDX-License-Identifier: GPL-2.0-only
/* The range assertions: both ends belong to the range. */
#include "exceptions.h"

#define CHECK(name, type, start, assertion, value)     \
	type in_##name = start;                        \
	SEC("tc") __success                            \
	__retval(value)                                \
	__hook("test_run")                             \
	int name(struct __sk_buff *skb)                \
	{                                              \
		type x = *(volatile type *)&in_##name; \
                                                       \
		assertion;                             \
		return 1;                              \
	}

CHECK(first, __u32, 10, bpf_assert_range_with(x, 10, 20, 9), 1)
CHECK(last, __u32, 20, bpf_assert_range_with(x, 10, 20, 9), 1)
CHECK(below, __u32, 9, bpf_assert_range_with(x, 10, 20, 9), 9)
CHECK(above, __u32, 21, bpf_assert_range(x, 10, 20), 0)
CHECK(negative, __s32, -3, bpf_assert_range_with(x, -3, -1, 9), 1)
CHECK(signed_below, __s64, -4, bpf_assert_range_with(x, -3, 3, 9), 9)
CHECK(one_value, __u64, 0x100000000, bpf_assert_range_with(x, 0x100000000, 0x100000000, 9), 1)

char LICENSE[] SEC("license") = "GPL";
