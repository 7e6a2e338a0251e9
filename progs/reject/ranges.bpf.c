// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a program may return, its cookies may be where no callback stands between: each type has a
 * range of its own. The default callback returns the cookie as it is.
 */
#include "verdict.h"

#define OUT_OF(section, range) \
	SEC("?" section)       \
	__failure              \
	__errno(22)            \
	__msg("should have been in [" range "]")
#define WITHIN(section)            \
	SEC("?" section) __success \
	__hook("load")

/* A program that throws COOKIE, and would return VALUE. */
#define BODY(name, cookie, value)  \
	int name(void *ctx)        \
	{                          \
		bpf_throw(cookie); \
		return value;      \
	}
#define WRONG(name, section, range, cookie, value) OUT_OF(section, range) BODY(name, cookie, value)
#define RIGHT(name, section, cookie, value)	   WITHIN(section) BODY(name, cookie, value)

WRONG(cgroup_ingress, "cgroup_skb/ingress", "0, 1", -1, 1)
RIGHT(cgroup_ingress_within, "cgroup_skb/ingress", 1, 1)
WRONG(cgroup_egress, "cgroup_skb/egress", "0, 3", 4, 1)
RIGHT(cgroup_egress_within, "cgroup_skb/egress", 3, 1)
WRONG(cgroup_device, "cgroup/dev", "0, 1", 2, 1)
RIGHT(cgroup_device_within, "cgroup/dev", 0, 1)
WRONG(cgroup_sysctl, "cgroup/sysctl", "0, 1", 2, 1)
RIGHT(cgroup_sysctl_within, "cgroup/sysctl", 1, 1)
WRONG(cgroup_getsockopt, "cgroup/getsockopt", "0, 1", 2, 1)
RIGHT(cgroup_getsockopt_within, "cgroup/getsockopt", 1, 1)
WRONG(cgroup_setsockopt, "cgroup/setsockopt", "0, 1", 2, 1)
RIGHT(cgroup_setsockopt_within, "cgroup/setsockopt", 0, 1)
WRONG(cgroup_sock_create, "cgroup/sock_create", "0, 1", 2, 1)
RIGHT(cgroup_sock_create_within, "cgroup/sock_create", 1, 1)
WRONG(cgroup_post_bind, "cgroup/post_bind4", "0, 1", 2, 1)
WRONG(cgroup_bind, "cgroup/bind4", "0, 3", 4, 1)
RIGHT(cgroup_bind_within, "cgroup/bind6", 2, 1)
WRONG(cgroup_connect, "cgroup/connect4", "0, 1", 2, 1)
RIGHT(cgroup_connect_within, "cgroup/connect6", 1, 1)
WRONG(cgroup_sendmsg, "cgroup/sendmsg4", "0, 1", 2, 1)
RIGHT(cgroup_sendmsg_within, "cgroup/sendmsg4", 0, 1)
WRONG(cgroup_recvmsg, "cgroup/recvmsg4", "1, 1", 0, 1)
RIGHT(cgroup_recvmsg_within, "cgroup/recvmsg4", 1, 1)
WRONG(cgroup_getpeername, "cgroup/getpeername4", "1, 1", 2, 1)
RIGHT(cgroup_getpeername_within, "cgroup/getpeername4", 1, 1)
WRONG(cgroup_getsockname, "cgroup/getsockname6", "1, 1", 0, 1)
RIGHT(cgroup_getsockname_within, "cgroup/getsockname6", 1, 1)
WRONG(lsm_too_low, "lsm/file_open", "-4095, 0", -4096, 0)
RIGHT(lsm_lowest, "lsm/file_open", -4095, 0)
WRONG(iterator, "iter/task", "0, 1", 2, 0)
RIGHT(iterator_within, "iter/task", 1, 0)

/* Types whose values are not looked at, and a hook without a value. */
RIGHT(lsm_void, "lsm/sk_free_security", 4711, 0)
RIGHT(fmod_ret_any, "fmod_ret/bpf_modify_return_test", 4711, 0)
RIGHT(tp_btf_any, "tp_btf/sched_switch", -1, 0)
RIGHT(tracepoint_any, "tracepoint/syscalls/sys_enter_getpid", 4711, 0)
RIGHT(perf_event_any, "perf_event", 4711, 0)

/* sock_ops programs may throw since 6.18. */
#define NOT_YET                  \
	__on("6.12", "failure")  \
	__on("6.12", "errno=13") \
	__on("6.12", "msg=1=calling kernel function bpf_throw is not allowed")

OUT_OF("sockops", "0, 1")
NOT_YET
int sock_ops(void *ctx)
{
	bpf_throw(2);
	return 0;
}

WITHIN("sockops")
NOT_YET
int sock_ops_within(void *ctx)
{
	bpf_throw(1);
	return 0;
}

/* ---- what is known of a cookie counts, not what it is ---- */

OUT_OF("cgroup_skb/ingress", "0, 1")
int unknown(struct __sk_buff *skb)
{
	bpf_throw(skb->len);
	return 0;
}

NEAR_MISS(0)
int unknown_on_tc(struct __sk_buff *skb)
{
	bpf_throw(skb->priority);
	return 1;
}

WITHIN("cgroup_skb/ingress")
int masked(struct __sk_buff *skb)
{
	bpf_throw(skb->len & 1);
	return 0;
}

OUT_OF("cgroup_skb/ingress", "0, 1")
int masked_too_wide(struct __sk_buff *skb)
{
	bpf_throw(skb->len & 2);
	return 0;
}

WITHIN("cgroup_skb/ingress")
int bounded_by_branch(struct __sk_buff *skb)
{
	__u32 len = skb->len;

	barrier_var(len);
	if (len < 2)
		bpf_throw(len);
	return 0;
}

OUT_OF("cgroup_skb/ingress", "0, 1")
int bounded_off_by_one(struct __sk_buff *skb)
{
	__u32 len = skb->len;

	barrier_var(len);
	if (len < 3)
		bpf_throw(len);
	return 0;
}

static __noinline int throws(__u64 x)
{
	barrier_var(x);
	bpf_throw(x);
	return 0;
}

OUT_OF("cgroup_skb/ingress", "0, 1")
int in_static(struct __sk_buff *skb)
{
	return throws(2);
}

WITHIN("cgroup_skb/ingress")
int in_static_within(struct __sk_buff *skb)
{
	return throws(1);
}

__noinline int throws_global(__u64 x)
{
	barrier_var(x);
	bpf_throw(x);
	return 0;
}

__noinline int throws_one(__u64 x)
{
	barrier_var(x);
	bpf_throw(1);
	return 0;
}

/* What callers pass is not known in a global function. Before 7.3 nobody looked. */
OUT_OF("cgroup_skb/ingress", "0, 1") __hook("load")
__on("6.12,6.18", "success")
int in_global(struct __sk_buff *skb)
{
	return throws_global(1);
}

WITHIN("cgroup_skb/ingress")
int in_global_within(struct __sk_buff *skb)
{
	throws_one(1);
	return 0;
}

/* ---- with a callback its value counts, and the cookie is free ---- */

int masks(__u64 cookie)
{
	return cookie & 1;
}

int passes_on(__u64 cookie)
{
	return cookie;
}

int returns_two(__u64 cookie)
{
	return 2;
}

WITHIN("cgroup_skb/ingress")
__exception_cb(masks)
int callback_masks(struct __sk_buff *skb)
{
	bpf_throw(2000);
	return 0;
}

/* The callback is verified for any cookie, not for those that are thrown. */
OUT_OF("cgroup_skb/ingress", "0, 1")
__exception_cb(passes_on)
int callback_of_small_cookies(struct __sk_buff *skb)
{
	bpf_throw(0);
	return 0;
}

OUT_OF("cgroup_skb/ingress", "0, 1")
__exception_cb(returns_two)
int callback_returns_two(struct __sk_buff *skb)
{
	bpf_throw(0);
	return 0;
}

/* Also where nobody throws. */
OUT_OF("cgroup_skb/ingress", "0, 1")
__exception_cb(returns_two)
int callback_unused(struct __sk_buff *skb)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
