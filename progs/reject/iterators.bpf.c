// SPDX-License-Identifier: GPL-2.0-only
/* Open-coded iterators are references: a throw while one lives is refused, whoever throws. */
#include "verdict.h"
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
struct bpf_iter_num {
	__u64 __opaque[1];
} __attribute__((aligned(8)));
#endif

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

#define LIVES REFUSED(22, "Unreleased reference")

static __noinline int throws(__u64 x)
{
	barrier_var(x);
	if (x > 10)
		bpf_throw(x);
	return 0;
}

__noinline int throws_global(__u64 x)
{
	barrier_var(x);
	if (x > 10)
		bpf_throw(x);
	return 0;
}

static __noinline int sums_and_throws(__u64 x)
{
	struct bpf_iter_num numbers;
	int *number, sum = 0;

	bpf_iter_num_new(&numbers, 0, 5);
	while ((number = bpf_iter_num_next(&numbers))) {
		sum += *number;
		if (sum > x)
			bpf_throw(sum);
	}
	bpf_iter_num_destroy(&numbers);
	return sum;
}

/* Born and not yet asked. */
LIVES
int not_yet_asked(struct __sk_buff *skb)
{
	struct bpf_iter_num numbers;

	bpf_iter_num_new(&numbers, 0, 5);
	if (skb->len > 10)
		bpf_throw(1);
	bpf_iter_num_destroy(&numbers);
	return 0;
}

/* At its end it is still there. */
LIVES
int at_its_end(struct __sk_buff *skb)
{
	struct bpf_iter_num numbers;

	bpf_iter_num_new(&numbers, 0, 5);
	while (bpf_iter_num_next(&numbers))
		;
	if (skb->len > 10)
		bpf_throw(1);
	bpf_iter_num_destroy(&numbers);
	return 0;
}

LIVES
int throw_in_loop_of_static(struct __sk_buff *skb)
{
	return sums_and_throws(skb->len);
}

LIVES
int static_throws_in_loop(struct __sk_buff *skb)
{
	struct bpf_iter_num numbers;
	int *number, sum = 0;

	bpf_iter_num_new(&numbers, 0, 5);
	while ((number = bpf_iter_num_next(&numbers)))
		sum += throws(*number);
	bpf_iter_num_destroy(&numbers);
	return sum;
}

REFUSED_BY_7_3(22, "Unreleased reference")
int global_throws_in_loop(struct __sk_buff *skb)
{
	struct bpf_iter_num numbers;
	int *number, sum = 0;

	bpf_iter_num_new(&numbers, 0, 5);
	while ((number = bpf_iter_num_next(&numbers)))
		sum += throws_global(*number);
	bpf_iter_num_destroy(&numbers);
	return sum;
}

/* The loop is left first: the throw stands behind it. */
NEAR_MISS(3)
int breaks_then_throws(struct __sk_buff *skb)
{
	struct bpf_iter_num numbers;
	int *number, found = 0;

	bpf_iter_num_new(&numbers, 0, 5);
	while ((number = bpf_iter_num_next(&numbers))) {
		if (*number == 3) {
			found = *number;
			break;
		}
	}
	bpf_iter_num_destroy(&numbers);
	if (found)
		bpf_throw(found);
	return 0;
}

NEAR_MISS(64)
int destroyed_first(struct __sk_buff *skb)
{
	struct bpf_iter_num numbers;

	bpf_iter_num_new(&numbers, 0, 5);
	bpf_iter_num_destroy(&numbers);
	return throws(skb->len);
}

int sums(__u64 cookie)
{
	struct bpf_iter_num numbers;
	int *number, sum = 0;

	bpf_iter_num_new(&numbers, 0, 5);
	while ((number = bpf_iter_num_next(&numbers)))
		sum += *number;
	bpf_iter_num_destroy(&numbers);
	return sum + cookie;
}

NEAR_MISS(11)
__exception_cb(sums)
int callback_iterates(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
