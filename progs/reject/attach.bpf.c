// SPDX-License-Identifier: GPL-2.0-only
/* What may be attached where: nothing to an exception callback, and not everything to the rest. */
#include "verdict.h"

int seen;

__noinline int callback(__u64 cookie)
{
	barrier_var(cookie);
	return cookie + 1;
}

/* As the callback, and nobody's. */
__noinline int alike(__u64 cookie)
{
	barrier_var(cookie);
	return cookie + 1;
}

__noinline int replaced(int x)
{
	barrier_var(x);
	return x + 1;
}

static __noinline int private(int x)
{
	barrier_var(x);
	return x + 1;
}

__noinline int throws(int x)
{
	barrier_var(x);
	if (x > 10)
		bpf_throw(x);
	return x;
}

/* ---- what is to be attached ---- */

SEC("?freplace/callback") __target
int replaces_callback(__u64 cookie)
{
	return cookie + 2;
}

SEC("?fentry/callback") __target
int enters_callback(__u64 *ctx)
{
	seen++;
	return 0;
}

SEC("?fexit/callback") __target
int leaves_callback(__u64 *ctx)
{
	seen++;
	return 0;
}

SEC("?freplace/alike") __target
int replaces_alike(__u64 cookie)
{
	return cookie + 2;
}

SEC("?fentry/alike") __target
int enters_alike(__u64 *ctx)
{
	seen++;
	return 0;
}

SEC("?freplace/private") __target
int replaces_static(int x)
{
	return x + 2;
}

SEC("?freplace/replaced") __target
int replaces(int x)
{
	return x + 100;
}

/* As many parameters, one of another width. */
SEC("?freplace/replaced") __target
int replaces_with_two(int x, int y)
{
	return x + y;
}

SEC("?freplace/replaced") __target
int replaces_and_throws(int x)
{
	bpf_throw(x + 200);
	return 0;
}

SEC("?fentry/replaced") __target
int enters_and_throws_one(__u64 *ctx)
{
	bpf_throw(1);
	return 0;
}

SEC("?fentry/throws") __target
int enters_thrower(__u64 *ctx)
{
	seen++;
	return 0;
}

SEC("?fexit/replaced") __target
int leaves(__u64 *ctx)
{
	seen++;
	return 0;
}

SEC("?fmod_ret/callback") __target
int modifies_callback(__u64 *ctx)
{
	return 0;
}

SEC("?fmod_ret/throws") __target
int modifies_thrower(__u64 *ctx)
{
	return 0;
}

/* ---- refused ---- */

#define TO_CALLBACK(number, kind) \
	REFUSED(number, kind " programs cannot attach to exception callback")

TO_CALLBACK(22, "Extension")
__exception_cb(callback)
__with(replaces_callback)
int freplace_callback(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

TO_CALLBACK(22, "FENTRY/FEXIT")
__on("7.3", "msg=1=Tracing programs cannot attach to exception callback")
__exception_cb(callback)
__with(enters_callback)
int fentry_callback(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

TO_CALLBACK(22, "FENTRY/FEXIT")
__on("7.3", "msg=1=Tracing programs cannot attach to exception callback")
__exception_cb(callback)
__with(leaves_callback)
int fexit_callback(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

TO_CALLBACK(22, "FENTRY/FEXIT")
__on("7.3", "msg=1=Tracing programs cannot attach to exception callback")
__exception_cb(callback)
__with(modifies_callback)
int fmod_ret_callback(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

REFUSED(22, "can't modify return codes of BPF programs")
__with(modifies_thrower)
int fmod_ret_thrower(struct __sk_buff *skb)
{
	return throws(skb->len);
}

REFUSED(22, "private() is not a global function")
__with(replaces_static)
int freplace_static(struct __sk_buff *skb)
{
	bpf_throw(private(skb->len));
	return 0;
}

REFUSED(22, "has 2 args while replaced() has 1 args")
__with(replaces_with_two)
int freplace_of_another_shape(struct __sk_buff *skb)
{
	bpf_throw(replaced(skb->len));
	return 0;
}

REFUSED(22, "should have been in [0, 0]")
__with(enters_and_throws_one)
int fentry_throws_one(struct __sk_buff *skb)
{
	bpf_throw(replaced(skb->len));
	return 0;
}

/* ---- near misses ---- */

NEAR_MISS(66)
__with(replaces_alike)
int freplace_global(struct __sk_buff *skb)
{
	bpf_throw(alike(skb->len));
	return 0;
}

NEAR_MISS(65)
__global_is(seen, 1)
__with(enters_alike)
int fentry_global(struct __sk_buff *skb)
{
	seen = 0;
	bpf_throw(alike(skb->len));
	return 0;
}

NEAR_MISS(164)
__with(replaces)
int freplace_then_throw(struct __sk_buff *skb)
{
	bpf_throw(replaced(skb->len));
	return 0;
}

NEAR_MISS(264)
__with(replaces_and_throws)
int freplace_throws(struct __sk_buff *skb)
{
	bpf_throw(replaced(skb->len));
	return 0;
}

NEAR_MISS(64)
__global_is(seen, 1)
__with(enters_thrower)
int fentry_of_thrower(struct __sk_buff *skb)
{
	seen = 0;
	return throws(skb->len);
}

/* It was left before the throw. */
NEAR_MISS(65)
__global_is(seen, 1)
__with(leaves)
int fexit_left_before(struct __sk_buff *skb)
{
	seen = 0;
	bpf_throw(replaced(skb->len));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
