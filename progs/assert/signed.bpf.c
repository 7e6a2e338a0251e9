// SPDX-License-Identifier: GPL-2.0-only
/* The relational assertions on signed values, at the limits of the type, holding (1) and not. */
#include "exceptions.h"

#define S64_MIN (-0x7fffffffffffffffLL - 1)
#define S64_MAX 0x7fffffffffffffffLL
#define S32_MIN (-0x7fffffff - 1)

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

CHECK(eq_holds, __s64, S64_MIN, bpf_assert_eq_with(x, S64_MIN, 9), 1)
CHECK(eq_fails, __s32, -5, bpf_assert_eq(x, 5), 0)
CHECK(ne_holds, __s32, S32_MIN, bpf_assert_ne_with(x, 0, 9), 1)
CHECK(ne_fails, __s64, -1, bpf_assert_ne_with(x, -1, 9), 9)
CHECK(lt_holds, __s64, S64_MAX - 1, bpf_assert_lt_with(x, S64_MAX, 9), 1)
CHECK(lt_fails, __s32, 0, bpf_assert_lt_with(x, -1, 9), 9)
CHECK(le_holds, __s8, -128, bpf_assert_le_with(x, -128, 9), 1)
CHECK(le_fails, __s16, 1, bpf_assert_le_with(x, -1, -9), -9)
CHECK(gt_holds, __s32, 0, bpf_assert_gt_with(x, -1, 9), 1)
CHECK(gt_fails, __s64, S64_MIN, bpf_assert_gt_with(x, S64_MIN, 9), 9)
CHECK(ge_holds, __s64, S64_MIN, bpf_assert_ge_with(x, S64_MIN, 9), 1)
CHECK(ge_fails, __s32, S32_MIN, bpf_assert_ge_with(x, S32_MIN + 1, 9), 9)

char LICENSE[] SEC("license") = "GPL";
