// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions that a program enters and leaves: RCU, preemption off, interrupts off. Kernels before
 * 7.3 look at throws of the main function only: those that load there are never run.
 */
#include "verdict.h"

extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;
extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;
extern void bpf_local_irq_save(unsigned long *flags) __weak __ksym;
extern void bpf_local_irq_restore(unsigned long *flags) __weak __ksym;

#define IN_RCU	   "bpf_throw cannot be used inside bpf_rcu_read_lock-ed region"
#define IN_PREEMPT "bpf_throw cannot be used inside bpf_preempt_disable-ed region"
#define IN_IRQ	   "bpf_throw cannot be used inside bpf_local_irq_save-ed region"

/* Refused by all, each in its own words. */
#define MAIN "BPF_EXIT instruction in main prog cannot be used inside "
#define HELD_RCU                                             \
	REFUSED(22, IN_RCU)                                  \
	__on("6.12", "msg=1=bpf_rcu_read_unlock is missing") \
	__on("6.18", "msg=1=" MAIN "bpf_rcu_read_lock-ed region")
#define HELD_PREEMPT                                          \
	REFUSED(22, IN_PREEMPT)                               \
	__on("6.12", "msg=1=1 bpf_preempt_enable is missing") \
	__on("6.18", "msg=1=" MAIN "bpf_preempt_disable-ed region")

/* Interrupts have been for programs since 6.14. */
#define NO_IRQ_YET              \
	__on("6.12", "failure") \
	__on("6.12", "msg=1=kfunc 'bpf_local_irq_save' is referenced but wasn't resolved")

/* 6.12 calls no global function with preemption off at all. */
#define NO_GLOBALS_YET           \
	__on("6.12", "failure")  \
	__on("6.12", "errno=22") \
	__on("6.12", "msg=1=global function calls are not allowed with preemption disabled")

static __noinline int throws(__u64 x)
{
	barrier_var(x);
	if (x > 10)
		bpf_throw(x);
	return 0;
}

static __noinline int between(__u64 x)
{
	barrier_var(x);
	return throws(x + 1) + 1;
}

__noinline int throws_global(__u64 x)
{
	barrier_var(x);
	if (x > 10)
		bpf_throw(x);
	return 0;
}

static __noinline int doubles(__u64 x)
{
	barrier_var(x);
	return x * 2;
}

/* ---- RCU ---- */

static __noinline int locks_and_throws(__u64 x)
{
	int value;

	bpf_rcu_read_lock();
	value = throws(x);
	bpf_rcu_read_unlock();
	return value;
}

static __noinline int throws_in_region(__u64 x)
{
	barrier_var(x);
	bpf_rcu_read_lock();
	if (x > 10)
		bpf_throw(x);
	bpf_rcu_read_unlock();
	return 0;
}

__noinline int throws_in_region_global(__u64 x)
{
	barrier_var(x);
	bpf_rcu_read_lock();
	if (x > 10)
		bpf_throw(x);
	bpf_rcu_read_unlock();
	return 0;
}

/* Left on the path that returns, and not on the one that throws. */
HELD_RCU
int rcu_on_one_path(struct __sk_buff *skb)
{
	bpf_rcu_read_lock();
	if (skb->len > 100)
		bpf_throw(1);
	bpf_rcu_read_unlock();
	return 0;
}

REFUSED_BY_7_3(22, IN_RCU)
int rcu_of_main_throw_in_static(struct __sk_buff *skb)
{
	int value;

	bpf_rcu_read_lock();
	value = throws(skb->len);
	bpf_rcu_read_unlock();
	return value;
}

REFUSED_BY_7_3(22, IN_RCU)
int rcu_of_main_throw_two_below(struct __sk_buff *skb)
{
	int value;

	bpf_rcu_read_lock();
	value = between(skb->len);
	bpf_rcu_read_unlock();
	return value;
}

REFUSED_BY_7_3(22, IN_RCU)
int rcu_of_static(struct __sk_buff *skb)
{
	return throws_in_region(skb->len);
}

REFUSED_BY_7_3(22, IN_RCU)
int rcu_of_static_throw_below(struct __sk_buff *skb)
{
	return locks_and_throws(skb->len);
}

HELD_RCU
int rcu_of_global(struct __sk_buff *skb)
{
	return throws_in_region_global(skb->len);
}

REFUSED_BY_7_3(22, IN_RCU)
int rcu_of_main_throw_in_global(struct __sk_buff *skb)
{
	int value;

	bpf_rcu_read_lock();
	value = throws_global(skb->len);
	bpf_rcu_read_unlock();
	return value;
}

/* Taken by a function that returns, and still held when main throws. */
static __noinline void enters(void)
{
	bpf_rcu_read_lock();
}

static __noinline void leaves(void)
{
	bpf_rcu_read_unlock();
}

HELD_RCU
int rcu_taken_by_callee(struct __sk_buff *skb)
{
	enters();
	if (skb->len > 10)
		bpf_throw(1);
	bpf_rcu_read_unlock();
	return 0;
}

NEAR_MISS(1)
int rcu_left_by_callee(struct __sk_buff *skb)
{
	bpf_rcu_read_lock();
	leaves();
	if (skb->len > 10)
		bpf_throw(1);
	return 0;
}

NEAR_MISS(64)
int rcu_left(struct __sk_buff *skb)
{
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	return throws(skb->len);
}

NEAR_MISS(128)
int rcu_nobody_throws(struct __sk_buff *skb)
{
	int value;

	bpf_rcu_read_lock();
	value = doubles(skb->len);
	bpf_rcu_read_unlock();
	bpf_throw(value);
	return 0;
}

static __noinline int enters_and_leaves(__u64 x)
{
	barrier_var(x);
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	bpf_throw(x);
	return 0;
}

NEAR_MISS(64)
int rcu_left_by_static(struct __sk_buff *skb)
{
	return enters_and_leaves(skb->len);
}

/* ---- preemption ---- */

static __noinline int throws_unpreempted(__u64 x)
{
	barrier_var(x);
	bpf_preempt_disable();
	if (x > 10)
		bpf_throw(x);
	bpf_preempt_enable();
	return 0;
}

__noinline int throws_unpreempted_global(__u64 x)
{
	barrier_var(x);
	bpf_preempt_disable();
	if (x > 10)
		bpf_throw(x);
	bpf_preempt_enable();
	return 0;
}

HELD_PREEMPT
int preempt_of_main(struct __sk_buff *skb)
{
	bpf_preempt_disable();
	if (skb->len > 10)
		bpf_throw(1);
	bpf_preempt_enable();
	return 0;
}

/* They count: one of two is not enough. */
HELD_PREEMPT
int preempt_twice_enabled_once(struct __sk_buff *skb)
{
	bpf_preempt_disable();
	bpf_preempt_disable();
	bpf_preempt_enable();
	if (skb->len > 10)
		bpf_throw(1);
	bpf_preempt_enable();
	return 0;
}

REFUSED_BY_7_3(22, IN_PREEMPT)
int preempt_of_main_throw_in_static(struct __sk_buff *skb)
{
	int value;

	bpf_preempt_disable();
	value = throws(skb->len);
	bpf_preempt_enable();
	return value;
}

REFUSED_BY_7_3(22, IN_PREEMPT)
int preempt_of_static(struct __sk_buff *skb)
{
	return throws_unpreempted(skb->len);
}

HELD_PREEMPT
int preempt_of_global(struct __sk_buff *skb)
{
	return throws_unpreempted_global(skb->len);
}

REFUSED(22, IN_PREEMPT)
__hook("load")
__on("6.18", "success")
NO_GLOBALS_YET
int preempt_of_main_throw_in_global(struct __sk_buff *skb)
{
	int value;

	bpf_preempt_disable();
	value = throws_global(skb->len);
	bpf_preempt_enable();
	return value;
}

static __noinline void stops_preemption(void)
{
	bpf_preempt_disable();
}

HELD_PREEMPT
int preempt_of_callee(struct __sk_buff *skb)
{
	stops_preemption();
	if (skb->len > 10)
		bpf_throw(1);
	bpf_preempt_enable();
	return 0;
}

NEAR_MISS(1)
int preempt_enabled_twice(struct __sk_buff *skb)
{
	bpf_preempt_disable();
	bpf_preempt_disable();
	bpf_preempt_enable();
	bpf_preempt_enable();
	if (skb->len > 10)
		bpf_throw(1);
	return 0;
}

NEAR_MISS(128)
int preempt_nobody_throws(struct __sk_buff *skb)
{
	int value;

	bpf_preempt_disable();
	value = doubles(skb->len);
	bpf_preempt_enable();
	bpf_throw(value);
	return 0;
}

/* ---- interrupts ---- */

static __noinline int throws_uninterrupted(__u64 x)
{
	unsigned long flags;

	barrier_var(x);
	bpf_local_irq_save(&flags);
	if (x > 10)
		bpf_throw(x);
	bpf_local_irq_restore(&flags);
	return 0;
}

REFUSED(22, IN_IRQ)
__on("6.12", "msg=1=kfunc 'bpf_local_irq_save' is referenced but wasn't resolved")
__on("6.18", "msg=1=" MAIN "bpf_local_irq_save-ed region")
int irq_of_main(struct __sk_buff *skb)
{
	unsigned long flags;

	bpf_local_irq_save(&flags);
	if (skb->len > 10)
		bpf_throw(1);
	bpf_local_irq_restore(&flags);
	return 0;
}

REFUSED(22, IN_IRQ)
__hook("load")
__on("6.18", "success")
NO_IRQ_YET
int irq_of_main_throw_in_static(struct __sk_buff *skb)
{
	unsigned long flags;
	int value;

	bpf_local_irq_save(&flags);
	value = throws(skb->len);
	bpf_local_irq_restore(&flags);
	return value;
}

REFUSED(22, IN_IRQ)
__hook("load")
__on("6.18", "success")
NO_IRQ_YET
int irq_of_static(struct __sk_buff *skb)
{
	return throws_uninterrupted(skb->len);
}

REFUSED(22, IN_IRQ)
__hook("load")
__on("6.18", "success")
NO_IRQ_YET
int irq_of_main_throw_in_global(struct __sk_buff *skb)
{
	unsigned long flags;
	int value;

	bpf_local_irq_save(&flags);
	value = throws_global(skb->len);
	bpf_local_irq_restore(&flags);
	return value;
}

NEAR_MISS(1)
NO_IRQ_YET
int irq_restored(struct __sk_buff *skb)
{
	unsigned long flags;

	bpf_local_irq_save(&flags);
	bpf_local_irq_restore(&flags);
	if (skb->len > 10)
		bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
