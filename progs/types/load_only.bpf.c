// SPDX-License-Identifier: GPL-2.0-only
/* Types that test_run cannot run, but that may throw on all kernels: they load. */
#include "exceptions.h"

SEC("tp/syscalls/sys_enter_getpid") __success
int tracepoint(void *ctx)
{
	bpf_throw(77);
	return 0;
}

SEC("perf_event") __success
int perf(void *ctx)
{
	bpf_throw(-1);
	return 0;
}

SEC("cgroup/dev") __success
int cgroup_dev(void *ctx)
{
	bpf_throw(1);
	return 0;
}

SEC("cgroup/sock_create") __success
int cgroup_sock(void *ctx)
{
	bpf_throw(0);
	return 1;
}

SEC("cgroup/sysctl") __success
int cgroup_sysctl(void *ctx)
{
	bpf_throw(1);
	return 0;
}

SEC("cgroup/connect4") __success
int cgroup_connect(void *ctx)
{
	bpf_throw(0);
	return 1;
}

SEC("cgroup/bind4") __success
int cgroup_bind(void *ctx)
{
	bpf_throw(3);
	return 1;
}

SEC("tp_btf/sched_switch") __success
int tp_btf(__u64 *ctx)
{
	bpf_throw(1000);
	return 0;
}

SEC("fentry/bpf_fentry_test1") __success
int kernel_fentry(__u64 *ctx)
{
	bpf_throw(0);
	return 0;
}

SEC("lsm/file_open") __success
int lsm(__u64 *ctx)
{
	bpf_throw(-13);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
