// SPDX-License-Identifier: GPL-2.0-only
/* Spin locks at a throw: nothing is called while one is held, and bpf_throw() is a call. */
#include "verdict.h"

struct guarded {
	struct bpf_spin_lock lock;
	__u32 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guarded);
} table SEC(".maps");

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

static __always_inline struct guarded *guarded(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&table, &key);
}

static __noinline int locks_and_throws(__u64 x)
{
	struct guarded *found = guarded();

	barrier_var(x);
	if (!found)
		return 0;
	bpf_spin_lock(&found->lock);
	if (x > 10)
		bpf_throw(x);
	bpf_spin_unlock(&found->lock);
	return 0;
}

REFUSED(22, "function calls are not allowed while holding a lock")
int taken_by_static(struct __sk_buff *skb)
{
	return locks_and_throws(skb->len);
}

REFUSED(22, "function calls are not allowed while holding a lock")
int throw_in_static(struct __sk_buff *skb)
{
	struct guarded *found = guarded();

	if (!found)
		return 0;
	bpf_spin_lock(&found->lock);
	found->value = throws(skb->len);
	bpf_spin_unlock(&found->lock);
	return 0;
}

/* A global function is not called with a lock, whether it throws or not. */
REFUSED(22, "global function calls are not allowed while holding a lock")
int throw_in_global(struct __sk_buff *skb)
{
	struct guarded *found = guarded();

	if (!found)
		return 0;
	bpf_spin_lock(&found->lock);
	found->value = throws_global(skb->len);
	bpf_spin_unlock(&found->lock);
	return 0;
}

int unlocks_never(__u64 cookie)
{
	struct guarded *found = guarded();

	if (!found)
		return 0;
	bpf_spin_lock(&found->lock);
	found->value = cookie;
	return 1;
}

REFUSED(22, "BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region")
__on("6.12", "msg=1=bpf_spin_unlock is missing")
__exception_cb(unlocks_never)
int locked_by_callback(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

/* A condition is looked at with the lock, the throw is done without. */
NEAR_MISS(5)
int unlocked_first(struct __sk_buff *skb)
{
	struct guarded *found = guarded();
	__u32 value;

	if (!found)
		return 0;
	bpf_spin_lock(&found->lock);
	value = found->value;
	found->value = 5;
	bpf_spin_unlock(&found->lock);
	if (!value)
		bpf_throw(5);
	return value;
}

static __noinline int doubles(__u64 x)
{
	barrier_var(x);
	return x * 2;
}

NEAR_MISS(128)
int static_does_not_throw(struct __sk_buff *skb)
{
	struct guarded *found = guarded();
	__u32 value;

	if (!found)
		return 0;
	bpf_spin_lock(&found->lock);
	value = doubles(skb->len);
	found->value = value;
	bpf_spin_unlock(&found->lock);
	bpf_throw(value);
	return 0;
}

int unlocks(__u64 cookie)
{
	struct guarded *found = guarded();

	if (!found)
		return 0;
	bpf_spin_lock(&found->lock);
	found->value = cookie;
	bpf_spin_unlock(&found->lock);
	return cookie + 1;
}

NEAR_MISS(2)
__exception_cb(unlocks)
int unlocked_by_callback(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

/* ---- resilient spin locks, since 6.15: taking one may fail ---- */

struct bpf_res_spin_lock {
	__u32 val;
};

struct resilient {
	struct bpf_res_spin_lock lock;
	__u32 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct resilient);
} resilients SEC(".maps");

extern int bpf_res_spin_lock(struct bpf_res_spin_lock *lock) __weak __ksym;
extern void bpf_res_spin_unlock(struct bpf_res_spin_lock *lock) __weak __ksym;

#define NOT_YET                 \
	__on("6.12", "failure") \
	__on("6.12", "msg=1=kfunc 'bpf_res_spin_lock' is referenced but wasn't resolved")

REFUSED(22, "function calls are not allowed while holding a lock")
NOT_YET
int resilient_held(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct resilient *found = bpf_map_lookup_elem(&resilients, &key);

	if (!found || bpf_res_spin_lock(&found->lock))
		return 0;
	bpf_throw(1);
	bpf_res_spin_unlock(&found->lock);
	return 0;
}

/* Where it could not be taken, it is not held. */
NEAR_MISS(0)
NOT_YET
int resilient_not_taken(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct resilient *found = bpf_map_lookup_elem(&resilients, &key);

	if (!found)
		return 0;
	if (bpf_res_spin_lock(&found->lock))
		bpf_throw(1);
	bpf_res_spin_unlock(&found->lock);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
