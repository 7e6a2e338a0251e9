// SPDX-License-Identifier: GPL-2.0-only
/* An open-coded iterator is a reference: no throw while it lives. */
#include "exceptions.h"
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
struct bpf_iter_num {
	__u64 __opaque[1];
} __attribute__((aligned(8)));
#endif

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

SEC("tc") __failure
__errno(22)
__msg("Unreleased reference")
int refused(struct __sk_buff *skb)
{
	struct bpf_iter_num numbers;
	int *number;

	bpf_iter_num_new(&numbers, 0, 5);
	number = bpf_iter_num_next(&numbers);
	if (number)
		bpf_throw(*number);
	bpf_iter_num_destroy(&numbers);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
