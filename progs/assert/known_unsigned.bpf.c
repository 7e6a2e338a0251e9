// SPDX-License-Identifier: GPL-2.0-only
/* What an order or equality against a constant tells of an unsigned number, at the limits. */
#include "known.h"

#define MAX64 0xffffffffffffffff
#define TOP64 0x7fffffffffffffff
#define MAX32 0xffffffff
#define TOP32 0x7fffffff

KNOWN(eq_zero_64, __u64, bpf_assert_eq_with(x, 0, 9), "0000000000000000", "0000000001000000")
KNOWN(eq_max_64, __u64, bpf_assert_eq_with(x, MAX64, 9), "ffffffffffffffff", "ffffffff00000000")
KNOWN(eq_max_32, __u32, bpf_assert_eq_with(x, MAX32, 9), "ffffffff", "feffffff")
KNOWN(ne_zero_64, __u64, bpf_assert_ne_with(x, 0, 9), "0000000001000000", "0000000000000000")
KNOWN(ne_max_64, __u64, bpf_assert_ne_with(x, MAX64, 9), "feffffffffffffff", "ffffffffffffffff")
KNOWN(ne_zero_32, __u32, bpf_assert_ne_with(x, 0, 9), "01000000", "00000000")
KNOWN(ne_max_32, __u32, bpf_assert_ne_with(x, MAX32, 9), "00000000", "ffffffff")
KNOWN(lt_one_64, __u64, bpf_assert_lt_with(x, 1, 9), "0000000000000000", "0100000000000000")
KNOWN(lt_sign_64, __u64, bpf_assert_lt_with(x, TOP64 + 1UL, 9), "ffffffffffffff7f",
      "0000000000000080")
KNOWN(lt_half_64, __u64, bpf_assert_lt_with(x, 0x100000000, 9), "ffffffff00000000",
      "0000000001000000")
KNOWN(lt_max_32, __u32, bpf_assert_lt_with(x, MAX32, 9), "feffffff", "ffffffff")
KNOWN(le_zero_32, __u32, bpf_assert_le_with(x, 0, 9), "00000000", "01000000")
KNOWN(le_top_32, __u32, bpf_assert_le_with(x, TOP32, 9), "ffffff7f", "00000080")
KNOWN(le_byte_16, __u16, bpf_assert_le_with(x, 255, 9), "ff00", "0001")
KNOWN(gt_zero_64, __u64, bpf_assert_gt_with(x, 0, 9), "0000000000000080", "0000000000000000")
KNOWN(gt_top_64, __u64, bpf_assert_gt_with(x, TOP64, 9), "0000000000000080", "ffffffffffffff7f")
KNOWN(gt_all_but_one_64, __u64, bpf_assert_gt_with(x, MAX64 - 1, 9), "ffffffffffffffff",
      "feffffffffffffff")
KNOWN(gt_top_32, __u32, bpf_assert_gt_with(x, TOP32, 9), "00000080", "ffffff7f")
KNOWN(gt_byte, __u8, bpf_assert_gt_with(x, 254, 9), "ff", "fe")
KNOWN(ge_half_64, __u64, bpf_assert_ge_with(x, 0x100000000, 9), "0000000001000000",
      "ffffffff00000000")
KNOWN(ge_max_64, __u64, bpf_assert_ge_with(x, MAX64, 9), "ffffffffffffffff", "feffffffffffffff")
KNOWN(ge_sign_32, __u32, bpf_assert_ge_with(x, TOP32 + 1U, 9), "00000080", "ffffff7f")
KNOWN(range_64, __u64, bpf_assert_range_with(x, 0xfffffffe, 0x100000001, 9), "0100000001000000",
      "0200000001000000")
KNOWN(range_around_sign_64, __u64, bpf_assert_range_with(x, TOP64, TOP64 + 1UL, 9),
      "0000000000000080", "0100000000000080")
KNOWN(range_around_sign_32, __u32, bpf_assert_range_with(x, TOP32, TOP32 + 1U, 9), "ffffff7f",
      "feffff7f")
KNOWN(range_byte, __u8, bpf_assert_range_with(x, 127, 128, 9), "80", "81")

char LICENSE[] SEC("license") = "GPL";
