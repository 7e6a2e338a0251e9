// SPDX-License-Identifier: GPL-2.0-only
/* An open-coded iterator is a reference: no throw while it lives. */
#include "exceptions.h"

/* Our own name: only newer headers have struct bpf_iter_num. */
struct numbers {
	__u64 opaque;
};

extern int bpf_iter_num_new(struct numbers *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct numbers *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct numbers *it) __weak __ksym;

SEC("tc") __failure
__errno(22)
__msg("Unreleased reference")
int refused(struct __sk_buff *skb)
{
	struct numbers numbers;
	int *number;

	bpf_iter_num_new(&numbers, 0, 5);
	number = bpf_iter_num_next(&numbers);
	if (number)
		bpf_throw(*number);
	bpf_iter_num_destroy(&numbers);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
