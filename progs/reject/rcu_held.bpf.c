// SPDX-License-Identifier: GPL-2.0-only
/* A throw in main may not leave a read-side critical section of RCU. */
#include "exceptions.h"

extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;

SEC("tc") __failure
__errno(22)
__msg("bpf_throw cannot be used inside bpf_rcu_read_lock-ed region")
__on("6.12", "msg=1=bpf_rcu_read_unlock is missing")
__on("6.18",
     "msg=1=BPF_EXIT instruction in main prog cannot be used inside bpf_rcu_read_lock-ed region")
int refused(struct __sk_buff *skb)
{
	bpf_rcu_read_lock();
	bpf_throw(1);
	bpf_rcu_read_unlock();
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
