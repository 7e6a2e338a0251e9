// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bug G: what is held when a throw leaves a function stays held for good. Up to 6.18 the verifier
 * looks at RCU, preemption and interrupts in the program's own frame only, and at global functions
 * not at all. What the kernel should do is refuse.
 */
#include "exceptions.h"

extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;
extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;
extern void bpf_local_irq_save(unsigned long *flags) __weak __ksym;
extern void bpf_local_irq_restore(unsigned long *flags) __weak __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

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

#define LEAKS(why)           \
	SEC("?tc") __failure \
	__errno(22)          \
	__hook("test_run")   \
	__crashes("bug G: " why)

#define HELD(name, why, before, call, after) \
	LEAKS(why)                           \
	__msg("bpf_throw")                   \
	int name(struct __sk_buff *skb)      \
	{                                    \
		int value;                   \
                                             \
		before;                      \
		value = call(skb->len);      \
		after;                       \
		return value;                \
	}
HELD(rcu, "RCU stays locked", bpf_rcu_read_lock(), throws, bpf_rcu_read_unlock())
HELD(rcu_global, "RCU stays locked", bpf_rcu_read_lock(), throws_global, bpf_rcu_read_unlock())
HELD(preempt, "preemption stays off", bpf_preempt_disable(), throws, bpf_preempt_enable())
HELD(preempt_global, "preemption stays off", bpf_preempt_disable(), throws_global,
     bpf_preempt_enable())

#define HELD_IRQ(name, call)                   \
	LEAKS("interrupts stay off")           \
	__msg("bpf_throw")                     \
	int name(struct __sk_buff *skb)        \
	{                                      \
		unsigned long flags;           \
		int value;                     \
                                               \
		bpf_local_irq_save(&flags);    \
		value = call(skb->len);        \
		bpf_local_irq_restore(&flags); \
		return value;                  \
	}
HELD_IRQ(irq, throws)
HELD_IRQ(irq_global, throws_global)

/* The record stays reserved: no later one of the ring buffer is ever seen. */
LEAKS("a reference stays")
__msg("bpf_throw")
int reference_global(struct __sk_buff *skb)
{
	__u64 *entry = bpf_ringbuf_reserve(&events, sizeof(*entry), 0);
	int value;

	if (!entry)
		return 0;
	value = throws_global(skb->len);
	bpf_ringbuf_discard(entry, 0);
	return value;
}

char LICENSE[] SEC("license") = "GPL";
