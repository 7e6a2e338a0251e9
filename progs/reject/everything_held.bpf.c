// SPDX-License-Identifier: GPL-2.0-only
/* Every frame of a call chain holds something when the innermost one throws. */
#include "exceptions.h"
#include <bpf/bpf_core_read.h>

struct bpf_iter_num {
	__u64 opaque[1];
} __attribute__((aligned(8)));

extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __weak __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __weak __ksym;
extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

struct session {
	__u64 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

int verdict(__u64 cookie)
{
	return cookie == 3 ? 2 : 0;
}

static __noinline int walk(__u32 len)
{
	struct bpf_iter_num it;
	int *index, sum = 0;

	bpf_iter_num_new(&it, 0, 5);
	while ((index = bpf_iter_num_next(&it))) {
		sum += *index;
		if (*index == 3 && len)
			bpf_throw(*index);
	}
	bpf_iter_num_destroy(&it);
	return sum;
}

static __noinline int report(__u32 len)
{
	__u64 *record;

	bpf_rcu_read_lock();
	record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
	if (record) {
		*record = walk(len);
		bpf_ringbuf_submit(record, 0);
	}
	bpf_rcu_read_unlock();
	return 0;
}

SEC("tc") __failure
__errno(22)
__msg("Unreleased reference")
__exception_cb(verdict)
int refused(struct __sk_buff *skb)
{
	struct session *session = bpf_obj_new_impl(bpf_core_type_id_local(struct session), NULL);

	if (!session)
		return 0;
	session->id = report(skb->len);
	bpf_obj_drop_impl(session, NULL);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
