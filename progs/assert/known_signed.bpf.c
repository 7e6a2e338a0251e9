// SPDX-License-Identifier: GPL-2.0-only
/* What an order or equality against a constant tells of a signed number, at the limits. */
#include "known.h"

#define MAX64 0x7fffffffffffffff
#define MIN64 (-MAX64 - 1)
#define MAX32 0x7fffffff
#define MIN32 (-MAX32 - 1)

KNOWN(eq_minus_one_64, __s64, bpf_assert_eq_with(x, -1, 9), "ffffffffffffffff", "ffffffff00000000")
KNOWN(eq_min_64, __s64, bpf_assert_eq_with(x, MIN64, 9), "0000000000000080", "0000000000000000")
KNOWN(eq_min_32, __s32, bpf_assert_eq_with(x, MIN32, 9), "00000080", "01000080")
KNOWN(ne_min_64, __s64, bpf_assert_ne_with(x, MIN64, 9), "0100000000000080", "0000000000000080")
KNOWN(ne_max_32, __s32, bpf_assert_ne_with(x, MAX32, 9), "feffff7f", "ffffff7f")
KNOWN(lt_zero_64, __s64, bpf_assert_lt_with(x, 0, 9), "ffffffffffffffff", "0000000000000000")
KNOWN(lt_zero_32, __s32, bpf_assert_lt_with(x, 0, 9), "ffffffff", "00000000")
KNOWN(lt_above_min_64, __s64, bpf_assert_lt_with(x, MIN64 + 1, 9), "0000000000000080",
      "0100000000000080")
KNOWN(lt_max_32, __s32, bpf_assert_lt_with(x, MAX32, 9), "feffff7f", "ffffff7f")
KNOWN(le_minus_one_32, __s32, bpf_assert_le_with(x, -1, 9), "00000080", "00000000")
KNOWN(le_zero_64, __s64, bpf_assert_le_with(x, 0, 9), "0000000000000000", "0100000000000000")
KNOWN(le_min_64, __s64, bpf_assert_le_with(x, MIN64, 9), "0000000000000080", "0000000000000000")
KNOWN(le_16, __s16, bpf_assert_le_with(x, -2, 9), "feff", "ffff")
KNOWN(gt_minus_one_64, __s64, bpf_assert_gt_with(x, -1, 9), "0000000000000000", "ffffffffffffffff")
KNOWN(gt_minus_one_32, __s32, bpf_assert_gt_with(x, -1, 9), "ffffff7f", "00000080")
KNOWN(gt_below_max_64, __s64, bpf_assert_gt_with(x, MAX64 - 1, 9), "ffffffffffffff7f",
      "feffffffffffff7f")
KNOWN(gt_byte, __s8, bpf_assert_gt_with(x, 126, 9), "7f", "80")
KNOWN(ge_zero_64, __s64, bpf_assert_ge_with(x, 0, 9), "ffffffffffffff7f", "0000000000000080")
KNOWN(ge_min32_64, __s64, bpf_assert_ge_with(x, MIN32, 9), "00000080ffffffff", "ffffff7fffffffff")
KNOWN(ge_max_32, __s32, bpf_assert_ge_with(x, MAX32, 9), "ffffff7f", "00000080")
KNOWN(range_around_zero_64, __s64, bpf_assert_range_with(x, -3, 3, 9), "fdffffffffffffff",
      "0400000000000000")
KNOWN(range_int_64, __s64, bpf_assert_range_with(x, MIN32, MAX32, 9), "ffffff7f00000000",
      "0000008000000000")
KNOWN(range_around_zero_32, __s32, bpf_assert_range_with(x, -1, 1, 9), "ffffffff", "02000000")
KNOWN(range_negative_32, __s32, bpf_assert_range_with(x, MIN32, -2, 9), "feffffff", "ffffffff")
KNOWN(range_byte, __s8, bpf_assert_range_with(x, -128, -127, 9), "81", "82")

char LICENSE[] SEC("license") = "GPL";
