// SPDX-License-Identifier: GPL-2.0-only
/* References at a throw, of every kind and in every frame: none may be held. */
#include "verdict.h"
#include <bpf/bpf_core_read.h>

#define LEAKS                                                                                \
	REFUSED(22, "Unreleased reference")                                                  \
	__on("6.18", "msg=2=BPF_EXIT instruction in main prog would lead to reference leak") \
	__on("7.3", "msg=2=bpf_throw would lead to reference leak")

extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __weak __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __weak __ksym;

struct session {
	__u64 id;
};

struct holder {
	struct session __kptr *session;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct holder);
} holders SEC(".maps");

__u64 copy[2];

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

__noinline int throws_never(__u64 x)
{
	__u64 zero = 0;

	barrier_var(x);
	barrier_var(zero);
	if (zero)
		bpf_throw(x);
	return 0;
}

__noinline int does_not_throw(__u64 x)
{
	barrier_var(x);
	return x + 1;
}

static __noinline int reserves_and_throws(__u64 x)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	barrier_var(x);
	if (!record)
		return 0;
	if (x > 10)
		bpf_throw(x);
	bpf_ringbuf_discard(record, 0);
	return 0;
}

__noinline int reserves_and_throws_global(__u64 x)
{
	return reserves_and_throws(x);
}

static __noinline __u64 *reserves(__u64 x)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (record)
		*record = x;
	return record;
}

/* ---- records of a ring buffer ---- */

LEAKS
int taken_by_static(struct __sk_buff *skb)
{
	return reserves_and_throws(skb->len);
}

LEAKS
int taken_by_global(struct __sk_buff *skb)
{
	return reserves_and_throws_global(skb->len);
}

LEAKS
int returned_by_static(struct __sk_buff *skb)
{
	__u64 *record = reserves(skb->len);

	if (!record)
		return 0;
	if (skb->len > 10)
		bpf_throw(1);
	bpf_ringbuf_discard(record, 0);
	return 0;
}

LEAKS
int one_of_two(struct __sk_buff *skb)
{
	__u64 *first = bpf_ringbuf_reserve(&events, 8, 0), *second;

	if (!first)
		return 0;
	second = bpf_ringbuf_reserve(&events, 8, 0);
	bpf_ringbuf_discard(first, 0);
	if (!second)
		return 0;
	if (skb->len > 10)
		bpf_throw(1);
	bpf_ringbuf_discard(second, 0);
	return 0;
}

/* Released on one path only. */
LEAKS
int on_one_path(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record)
		return 0;
	if (skb->len > 100) {
		bpf_ringbuf_discard(record, 0);
		bpf_throw(1);
	}
	if (skb->len > 50)
		bpf_throw(2);
	bpf_ringbuf_discard(record, 0);
	return 0;
}

/* The same by an assertion, which throws where it does not hold. */
LEAKS
int asserted(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record)
		return 0;
	bpf_assert_lt(skb->len, 100);
	bpf_ringbuf_discard(record, 0);
	return 0;
}

/* A global function that throws is refused where it is called, though it never would. */
REFUSED_BY_7_3(22, "Unreleased reference")
int throw_in_global_is_dead(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
	int value;

	if (!record)
		return 0;
	value = throws_never(skb->len);
	bpf_ringbuf_discard(record, 0);
	return value;
}

NEAR_MISS(65)
int global_does_not_throw(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
	int value;

	if (!record)
		return 0;
	value = does_not_throw(skb->len);
	bpf_ringbuf_discard(record, 0);
	bpf_throw(value);
	return 0;
}

NEAR_MISS(64)
int given_back_first(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (record)
		bpf_ringbuf_discard(record, 0);
	return throws(skb->len);
}

/* Where there is no record, there is nothing to give back. */
NEAR_MISS(0)
int throws_without_record(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record)
		bpf_throw(1);
	else
		bpf_ringbuf_discard(record, 0);
	return 0;
}

NEAR_MISS(64)
int given_back_by_static(struct __sk_buff *skb)
{
	__u64 *record = reserves(skb->len);

	if (!record)
		return 0;
	bpf_ringbuf_discard(record, 0);
	bpf_throw(skb->len);
	return 0;
}

NEAR_MISS(2)
int on_both_paths(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record)
		return 0;
	bpf_ringbuf_discard(record, 0);
	if (skb->len > 100)
		bpf_throw(1);
	if (skb->len > 50)
		bpf_throw(2);
	return 0;
}

/* Another path's throw is no business of the one that holds the record. */
NEAR_MISS(0)
int held_on_the_other_path(struct __sk_buff *skb)
{
	__u64 *record;

	if (skb->len > 100)
		bpf_throw(1);
	record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
	if (record)
		bpf_ringbuf_discard(record, 0);
	return 0;
}

/* ---- dynamic pointers ---- */

LEAKS
int dynptr_held(struct __sk_buff *skb)
{
	struct bpf_dynptr record;

	bpf_ringbuf_reserve_dynptr(&events, 8, 0, &record);
	if (skb->len > 10)
		bpf_throw(1);
	bpf_ringbuf_discard_dynptr(&record, 0);
	return 0;
}

/* Reserved or not: a record that failed is to be given back, too. */
LEAKS
int dynptr_failed(struct __sk_buff *skb)
{
	struct bpf_dynptr record;

	if (bpf_ringbuf_reserve_dynptr(&events, 8, 0, &record))
		bpf_throw(1);
	bpf_ringbuf_discard_dynptr(&record, 0);
	return 0;
}

NEAR_MISS(1)
int dynptr_given_back(struct __sk_buff *skb)
{
	struct bpf_dynptr record;

	bpf_ringbuf_reserve_dynptr(&events, 8, 0, &record);
	bpf_ringbuf_discard_dynptr(&record, 0);
	if (skb->len > 10)
		bpf_throw(1);
	return 0;
}

/* Of memory that is always there nothing is held. */
NEAR_MISS(1)
int dynptr_of_memory(struct __sk_buff *skb)
{
	struct bpf_dynptr memory;

	bpf_dynptr_from_mem(copy, sizeof(copy), 0, &memory);
	if (skb->len > 10)
		bpf_throw(1);
	return 0;
}

/* ---- objects ---- */

static __always_inline struct session *session_new(void)
{
	return bpf_obj_new_impl(bpf_core_type_id_local(struct session), NULL);
}

LEAKS
int object_held(struct __sk_buff *skb)
{
	struct session *session = session_new();

	if (!session)
		return 0;
	session->id = throws(skb->len);
	bpf_obj_drop_impl(session, NULL);
	return 0;
}

/* What came back out of the map has an owner again, if there was anything. */
LEAKS
int object_exchanged_back(struct __sk_buff *skb)
{
	struct session *session = session_new();
	struct holder *holder;
	__u32 key = 0;

	if (!session)
		return 0;
	holder = bpf_map_lookup_elem(&holders, &key);
	if (!holder) {
		bpf_obj_drop_impl(session, NULL);
		return 0;
	}
	session = bpf_kptr_xchg(&holder->session, session);
	if (skb->len > 10)
		bpf_throw(1);
	if (session)
		bpf_obj_drop_impl(session, NULL);
	return 0;
}

NEAR_MISS(1)
int object_in_map(struct __sk_buff *skb)
{
	struct session *session = session_new();
	struct holder *holder;
	__u32 key = 0;

	if (!session)
		return 0;
	holder = bpf_map_lookup_elem(&holders, &key);
	if (!holder) {
		bpf_obj_drop_impl(session, NULL);
		return 0;
	}
	session = bpf_kptr_xchg(&holder->session, session);
	if (session)
		bpf_obj_drop_impl(session, NULL);
	bpf_throw(1);
	return 0;
}

NEAR_MISS(64)
int object_dropped(struct __sk_buff *skb)
{
	struct session *session = session_new();

	if (session)
		bpf_obj_drop_impl(session, NULL);
	return throws(skb->len);
}

/* ---- sockets ---- */

static __always_inline struct bpf_sock *listener(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};

	return bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
}

LEAKS
int socket_held(struct __sk_buff *skb)
{
	struct bpf_sock *sock = listener(skb);

	if (!sock)
		return 0;
	if (sock->family == 2)
		bpf_throw(1);
	bpf_sk_release(sock);
	return 0;
}

NEAR_MISS(2)
int socket_released(struct __sk_buff *skb)
{
	struct bpf_sock *sock = listener(skb);
	__u32 family;

	if (!sock)
		bpf_throw(2);
	family = sock->family;
	bpf_sk_release(sock);
	bpf_throw(family);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
