// SPDX-License-Identifier: GPL-2.0-only
/* The relational assertions on unsigned values, at the limits of the type, holding (1) and not. */
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

CHECK(eq_holds, __u64, 5, bpf_assert_eq_with(x, 5, 9), 1)
CHECK(eq_fails, __u64, 5, bpf_assert_eq_with(x, 6, 9), 9)
CHECK(eq_all_bits, __u64, 0xffffffffffffffff, bpf_assert_eq_with(x, -1, 9), 1)
CHECK(eq_upper_half, __u64, 0x100000005, bpf_assert_eq_with(x, 5, 9), 9)
CHECK(ne_holds, __u32, 5, bpf_assert_ne_with(x, 6, 9), 1)
CHECK(ne_fails, __u32, 5, bpf_assert_ne(x, 5), 0)
CHECK(lt_holds, __u32, 0xfffffffe, bpf_assert_lt_with(x, 0xffffffff, 9), 1)
CHECK(lt_fails, __u32, 0x80000000, bpf_assert_lt_with(x, 0x80000000, 9), 9)
CHECK(lt_64_bits, __u64, 0x7fffffffffffffff, bpf_assert_lt_with(x, 0x8000000000000000, 9), 1)
CHECK(le_holds, __u32, 16, bpf_assert_le_with(x, 16, 9), 1)
CHECK(le_fails, __u16, 17, bpf_assert_le_with(x, 16, 9), 9)
CHECK(gt_holds, __u8, 255, bpf_assert_gt_with(x, 254, 9), 1)
CHECK(gt_fails, __u64, 0x80000000, bpf_assert_gt_with(x, 0xffffffff, 9), 9)
CHECK(ge_holds, __u64, 0xffffffff00000000, bpf_assert_ge_with(x, 0xffffffff00000000, 9), 1)
CHECK(ge_fails, __u32, 0, bpf_assert_ge_with(x, 1, 9), 9)

char LICENSE[] SEC("license") = "GPL";
