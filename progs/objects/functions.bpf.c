// SPDX-License-Identifier: GPL-2.0-only
/* Weak and hidden functions: global or static to the verifier, and a throw goes through all. */
#include "exceptions.h"

static __noinline int innermost(int x)
{
	barrier_var(x);
	if (x > 3)
		bpf_throw(x + 10);
	return x;
}

__weak __noinline int weak_function(int x)
{
	return innermost(x) + 1;
}

__attribute__((visibility("hidden"))) __noinline int hidden_function(int x)
{
	return weak_function(x + 1) + 1;
}

__weak __noinline int weak_callback(__u64 cookie)
{
	return cookie + 100;
}

SEC("tc") __success
__retval(115)
__hook("test_run")
__exception_cb(weak_callback)
int throws_through_them(struct __sk_buff *ctx)
{
	return hidden_function(ctx->len > 14 ? 4 : 0);
}

SEC("tc") __success
__retval(4)
__hook("test_run")
int returns_through_them(struct __sk_buff *ctx)
{
	return hidden_function(ctx->len > 14 ? 1 : 0);
}

char LICENSE[] SEC("license") = "GPL";
