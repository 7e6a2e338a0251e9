// SPDX-License-Identifier: GPL-2.0-only
/* What an exception callback may do: what any global function may, but it has only the cookie. */
#include "verdict.h"

extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;
extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

#define PROGRAM(name, callback)         \
	__exception_cb(callback)        \
	int name(struct __sk_buff *skb) \
	{                               \
		bpf_throw(3);           \
		return 0;               \
	}

/* There is no context: r2 to r9 have no value. */
int reads_r2(__u64 cookie)
{
	int value;

	asm volatile("%[value] = r2" : [value] "=r"(value));
	return value;
}

int reads_r6(__u64 cookie)
{
	int value;

	asm volatile("%[value] = r6" : [value] "=r"(value));
	return value;
}

int returns_garbage(__u64 cookie)
{
	asm volatile("if r1 != 0 goto +1; exit;");
	return 1;
}

/* The cookie is a number, and an address no more. */
int follows_cookie(__u64 cookie)
{
	return *(__u32 *)cookie;
}

int unbounded_cookie(__u64 cookie)
{
	__u32 slots[4] = {1, 2, 3, 4};

	asm volatile("" ::"r"(slots) : "memory");
	return slots[cookie];
}

int leaves_rcu(__u64 cookie)
{
	bpf_rcu_read_lock();
	return cookie;
}

int leaves_preempt(__u64 cookie)
{
	bpf_preempt_disable();
	return cookie;
}

int leaves_record(__u64 cookie)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record)
		return 0;
	*record = cookie;
	return 1;
}

/* By a key that is a constant, arrays of 6.14 and later are known to find something. */
int null_not_ruled_out(__u64 cookie)
{
	__u32 key = cookie;
	__u64 *value = bpf_map_lookup_elem(&table, &key);

	return *value + cookie;
}

REFUSED(13, "R2 !read_ok")
PROGRAM(no_second_parameter, reads_r2)
REFUSED(13, "R6 !read_ok")
PROGRAM(no_registers_of_main, reads_r6)
REFUSED(13, "R0 !read_ok")
PROGRAM(no_value, returns_garbage)
REFUSED(13, "R1 invalid mem access 'scalar'")
PROGRAM(cookie_followed, follows_cookie)
REFUSED(22, "math between fp pointer and register with unbounded min value is not allowed")
PROGRAM(cookie_as_index, unbounded_cookie)
REFUSED(22, "BPF_EXIT instruction in main prog cannot be used inside bpf_rcu_read_lock-ed region")
__on("6.12", "msg=1=bpf_rcu_read_unlock is missing")
PROGRAM(rcu_left, leaves_rcu)
REFUSED(22, "BPF_EXIT instruction in main prog cannot be used inside bpf_preempt_disable-ed region")
__on("6.12", "msg=1=1 bpf_preempt_enable is missing")
PROGRAM(preempt_left, leaves_preempt)
REFUSED(22, "Unreleased reference")
PROGRAM(record_left, leaves_record)
REFUSED(13, "R{{[0-9]}} invalid mem access 'map_value_or_null'")
PROGRAM(null_followed, null_not_ruled_out)

int copies_from_user(__u64 cookie)
{
	__u64 copy = 0;

	bpf_copy_from_user(&copy, sizeof(copy), (void *)cookie);
	return 0;
}

/* A callback may sleep where its program may. */
SEC("?lsm/file_open") __failure
__errno(22)
__msg("helper call might sleep in a non-sleepable prog")
__on("7.3", "msg=1=sleepable helper bpf_copy_from_user#{{[0-9]+}} in {{.*}}")
__exception_cb(copies_from_user)
int sleeps(void *ctx)
{
	bpf_throw(0);
	return 0;
}

SEC("?lsm.s/file_open") __success
__hook("load")
__exception_cb(copies_from_user)
int sleeps_where_allowed(void *ctx)
{
	bpf_throw(0);
	return 0;
}

int bounded_cookie(__u64 cookie)
{
	__u32 slots[4] = {1, 2, 3, 4};

	asm volatile("" ::"r"(slots) : "memory");
	return slots[cookie & 3];
}

int balanced_rcu(__u64 cookie)
{
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	return cookie + 1;
}

int balanced_preempt(__u64 cookie)
{
	bpf_preempt_disable();
	bpf_preempt_enable();
	return cookie + 2;
}

int gives_record(__u64 cookie)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record)
		return 0;
	*record = cookie;
	bpf_ringbuf_discard(record, 0);
	return cookie + 3;
}

int null_ruled_out(__u64 cookie)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&table, &key);

	return value ? *value + cookie : 99;
}

NEAR_MISS(4)
PROGRAM(cookie_as_bounded_index, bounded_cookie)
NEAR_MISS(4)
PROGRAM(rcu_given_back, balanced_rcu)
NEAR_MISS(5)
PROGRAM(preempt_given_back, balanced_preempt)
NEAR_MISS(6)
PROGRAM(record_given_back, gives_record)
NEAR_MISS(3)
PROGRAM(null_excluded, null_ruled_out)

char LICENSE[] SEC("license") = "GPL";
