// SPDX-License-Identifier: GPL-2.0-only
/* No callback of a helper throws, nor does an exception callback; what calls the helper may. */
#include "verdict.h"

#define IN_CALLBACK REFUSED(22, "bpf_throw kfunc (insn {{[0-9]+}}) cannot be called from callback")

struct timed {
	struct bpf_timer timer;
	__u64 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} values SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct timed);
} timers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} commands SEC(".maps");

__u64 sum;

static __noinline int throws(__u64 x)
{
	barrier_var(x);
	if (x > 7)
		bpf_throw(x);
	return 0;
}

__noinline int throws_global(__u64 x)
{
	barrier_var(x);
	if (x > 7)
		bpf_throw(x);
	return 0;
}

/* ---- exception callbacks ---- */

int rethrows(__u64 cookie)
{
	if (cookie > 5)
		bpf_throw(cookie);
	return 1;
}

int rethrows_static(__u64 cookie)
{
	return throws(cookie);
}

int rethrows_global(__u64 cookie)
{
	return throws_global(cookie);
}

int rethrows_never(__u64 cookie)
{
	__u64 zero = 0;

	barrier_var(zero);
	if (zero)
		bpf_throw(cookie);
	return 1;
}

int fine(__u64 cookie)
{
	return cookie + 1;
}

#define THROWER(name, callback)         \
	__exception_cb(callback)        \
	int name(struct __sk_buff *skb) \
	{                               \
		bpf_throw(3);           \
		return 0;               \
	}
IN_CALLBACK
THROWER(exception_callback, rethrows)
IN_CALLBACK
THROWER(exception_callback_static, rethrows_static)
IN_CALLBACK
THROWER(exception_callback_global, rethrows_global)
IN_CALLBACK
THROWER(exception_callback_dead, rethrows_never)
NEAR_MISS(4)
THROWER(exception_callback_that_returns, fine)

IN_CALLBACK
__exception_cb(rethrows)
int exception_callback_unused(struct __sk_buff *skb)
{
	return 0;
}

/* ---- bpf_loop() ---- */

static int loop_static(__u32 index, void *unused)
{
	return throws(index);
}

static int loop_global(__u32 index, void *unused)
{
	return throws_global(index);
}

static int loop_dead(__u32 index, void *unused)
{
	__u64 zero = 0;

	barrier_var(zero);
	if (zero)
		bpf_throw(index);
	return 0;
}

static int loop_adds(__u32 index, void *unused)
{
	sum += index;
	return sum > 7;
}

static int loop_in_loop(__u32 index, void *unused)
{
	bpf_loop(2, loop_static, 0, 0);
	return 0;
}

#define LOOP(name, callback)                 \
	int name(struct __sk_buff *skb)      \
	{                                    \
		bpf_loop(3, callback, 0, 0); \
		return 0;                    \
	}
IN_CALLBACK
LOOP(loop_calls_static, loop_static)
IN_CALLBACK
LOOP(loop_calls_global, loop_global)
IN_CALLBACK
LOOP(loop_within_loop, loop_in_loop)

/* The throw of the callback is dead, that of main is not. */
IN_CALLBACK
int loop_throws_never(struct __sk_buff *skb)
{
	bpf_loop(3, loop_dead, 0, 0);
	bpf_throw(skb->len);
	return 0;
}

NEAR_MISS(3)
__global_is(sum, 3)
int throw_behind_loop(struct __sk_buff *skb)
{
	sum = 0;
	bpf_loop(3, loop_adds, 0, 0);
	bpf_throw(sum);
	return 0;
}

static __noinline int loops_then_throws(__u64 x)
{
	sum = 0;
	bpf_loop(x, loop_adds, 0, 0);
	if (sum > 7)
		bpf_throw(sum);
	return 0;
}

NEAR_MISS(10)
int loop_says_so(struct __sk_buff *skb)
{
	return loops_then_throws(skb->len);
}

/* What no helper ever gets is no callback, though its address is taken. */
NEAR_MISS(64)
int address_only(struct __sk_buff *skb)
{
	void *address = throws;

	barrier_var(address);
	return throws(skb->len);
}

/* A callback in a branch that is never taken was never one. */
NEAR_MISS(64)
int loop_never(struct __sk_buff *skb)
{
	__u64 zero = 0;

	barrier_var(zero);
	if (zero)
		bpf_loop(3, loop_static, 0, 0);
	bpf_throw(skb->len);
	return 0;
}

/* ---- other helpers ---- */

static int element_throws(void *map, __u32 *key, __u64 *value, void *unused)
{
	if (*value > 7)
		bpf_throw(*value);
	return 0;
}

static int element_adds(void *map, __u32 *key, __u64 *value, void *unused)
{
	sum += *value + 1;
	return 0;
}

IN_CALLBACK
int for_each_element(struct __sk_buff *skb)
{
	bpf_for_each_map_elem(&values, element_throws, 0, 0);
	return 0;
}

NEAR_MISS(4)
int throw_behind_for_each(struct __sk_buff *skb)
{
	sum = 0;
	bpf_for_each_map_elem(&values, element_adds, 0, 0);
	bpf_throw(sum);
	return 0;
}

static int timer_throws(void *map, __u32 *key, struct timed *value)
{
	bpf_throw(0);
	return 0;
}

static int timer_counts(void *map, __u32 *key, struct timed *value)
{
	value->value++;
	return 0;
}

IN_CALLBACK
int timer(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct timed *timed = bpf_map_lookup_elem(&timers, &key);

	if (timed)
		bpf_timer_set_callback(&timed->timer, timer_throws);
	return 0;
}

/* EINVAL of a timer that was not initialised. */
NEAR_MISS(-22)
int throw_behind_timer(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct timed *timed = bpf_map_lookup_elem(&timers, &key);

	if (timed)
		bpf_throw(bpf_timer_set_callback(&timed->timer, timer_counts));
	return 0;
}

static long command_throws(struct bpf_dynptr *command, void *unused)
{
	bpf_throw(1);
	return 0;
}

static long command_counts(struct bpf_dynptr *command, void *unused)
{
	sum++;
	return 0;
}

IN_CALLBACK
int drain(struct __sk_buff *skb)
{
	bpf_user_ringbuf_drain(&commands, command_throws, 0, 0);
	return 0;
}

NEAR_MISS(0)
int throw_behind_drain(struct __sk_buff *skb)
{
	bpf_throw(bpf_user_ringbuf_drain(&commands, command_counts, 0, 0));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
