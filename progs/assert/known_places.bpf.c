// SPDX-License-Identifier: GPL-2.0-only
/* What assertions tell of places: array indices, map values, lengths of packets; and plain ifs. */
#include "known.h"

struct entry {
	__u32 slots[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct entry);
} entries SEC(".maps");

__u32 table[8] = {1, 1, 1, 1, 1, 1, 1, 1};

/* any bit, no bit, a multiple, both halves: conditions that no order says */
KNOWN(bit_set, __u64, bpf_assert_with(x & 0x8000000000000000, 9), "0000000000000080",
      "ffffffffffffff7f")
KNOWN(bits_clear, __u32, bpf_assert_with(!(x & 0xfffffff0), 9), "0f000000", "10000000")
KNOWN(multiple, __u64, bpf_assert_with(x % 8 == 0, 9), "0800000000000000", "0900000000000000")
KNOWN(two_conditions, __u32, bpf_assert_with(x > 3 && x < 9, 9), "08000000", "09000000")
KNOWN(three_in_a_row, __u64, bpf_assert_ge_with(x, 4, 9); bpf_assert_le_with(x, 100, 9);
      bpf_assert_ne_with(x, 4, 9), "6400000000000000", "0400000000000000")
KNOWN(mixed_signs, __s64, bpf_assert_gt_with(x, -5, 9);
      bpf_assert_lt_with((__u64)x, 0x80000000, 9), "ffffff7f00000000", "fcffffffffffffff")
KNOWN(plain_if, __u32, if (x > 10) bpf_throw(9), "0a000000", "0b000000")
KNOWN(plain_else, __u32, if (x <= 10) seen = 1; else bpf_throw(9), "0a000000", "0b000000")

SEC("tc") __success
__hook("test_run")
__input(holds, FRAME "07000000")
__retval_of(holds, 1)
__input(fails, FRAME "08000000")
__retval_of(fails, 9)
int array_index_32(struct __sk_buff *skb)
{
	__u32 loaded = 0, index;

	bpf_assert_with(!bpf_skb_load_bytes(skb, 14, &loaded, sizeof(loaded)), 99);
	index = loaded;
	bpf_assert_lt_with(index, 8, 9);
	return table[index];
}

SEC("tc") __success
__hook("test_run")
__input(holds, FRAME "fcffffffffffffff")
__retval_of(holds, 1)
__input(fails, FRAME "fbffffffffffffff")
__retval_of(fails, 9)
int array_index_signed(struct __sk_buff *skb)
{
	__s64 loaded = 0, index;

	bpf_assert_with(!bpf_skb_load_bytes(skb, 14, &loaded, sizeof(loaded)), 99);
	index = loaded;
	bpf_assert_range_with(index, -4, 3, 9);
	index += 4;
	barrier_var(index);
	return table[index];
}

SEC("tc") __success
__hook("test_run")
__input(holds, FRAME "0f00000000000000")
__retval_of(holds, 0)
__input(fails, FRAME "1000000000000000")
__retval_of(fails, 9)
int map_value_at(struct __sk_buff *skb)
{
	__u64 loaded = 0, index;
	__u32 key = 0;
	struct entry *entry = bpf_map_lookup_elem(&entries, &key);

	bpf_assert_with(entry, 98);
	bpf_assert_with(!bpf_skb_load_bytes(skb, 14, &loaded, sizeof(loaded)), 99);
	index = loaded;
	bpf_assert_lt_with(index, 16, 9);
	return entry->slots[index];
}

#define LENGTH(name, condition, offset, held, failed)                                     \
	SEC("tc") __success                                                               \
	__hook("test_run")                                                                \
	__input(holds, FRAME held)                                                        \
	__retval_of(holds, 7)                                                             \
	__input(fails, FRAME failed)                                                      \
	__retval_of(fails, 9)                                                             \
	int name(struct __sk_buff *skb)                                                   \
	{                                                                                 \
		__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end; \
                                                                                          \
		bpf_assert_with(condition, 9);                                            \
		return data[offset];                                                      \
	}

LENGTH(length_le, data + 18 <= end, 17, "00000007", "000000")
LENGTH(length_lt, data + 17 < end, 17, "00000007", "000000")
LENGTH(length_ge, end >= data + 18, 17, "00000007", "000000")
LENGTH(length_not_gt, !(data + 18 > end), 17, "00000007", "000000")
LENGTH(length_not_ge, !(data + 17 >= end), 17, "00000007", "000000")

SEC("tc") __success
__hook("test_run")
__input(holds, FRAME "1107070707070707")
__retval_of(holds, 7)
__input(fails, FRAME "ff07070707070707")
__retval_of(fails, 9)
int length_variable(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *at;

	bpf_assert_with(data + 15 <= end, 98);
	at = data + data[14];
	bpf_assert_with(at + 1 <= end, 9);
	return *at;
}

char LICENSE[] SEC("license") = "GPL";
