// SPDX-License-Identifier: GPL-2.0-only
/* What may stand in the tag that names an exception callback. */
#include "verdict.h"

int callback(__u64 cookie)
{
	return cookie + 1;
}

/* Not hidden: libbpf makes hidden functions static ones. */
__hidden int hidden(__u64 cookie)
{
	barrier_var(cookie);
	return cookie + 1;
}

/* A name so long that it fills what BTF allows. */
int a_callback_whose_name_is_rather_long_but_still_allowed_since_names_may_have_127_letters(
	__u64 cookie)
{
	return cookie + 1;
}

REFUSED(22, "tag contains empty value")
__exception_cb()
int empty_name(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

REFUSED(22, "must be a global non-hidden function")
__exception_cb(hidden)
int hidden_callback(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

REFUSED(2, "cannot find exception callback")
__exception_cb(callbacks)
int misspelt(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

/* A space is part of the name. */
REFUSED(2, "cannot find exception callback")
__attribute__((btf_decl_tag("exception_callback: callback"))) int
space_before_name(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

/* The name of a variable is no function. */
int variable;

REFUSED(2, "cannot find exception callback")
__exception_cb(variable)
int names_variable(struct __sk_buff *skb)
{
	variable = skb->len;
	bpf_throw(1);
	return 0;
}

/* A program is no function, be it another one or the very same. */
REFUSED(2, "cannot find exception callback 'names_itself'")
__exception_cb(names_itself)
int names_itself(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

REFUSED(2, "cannot find exception callback 'misspelt'")
__exception_cb(misspelt)
int names_program(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

NEAR_MISS(2)
__exception_cb(callback)
int well_spelt(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

NEAR_MISS(2)
__exception_cb(
	a_callback_whose_name_is_rather_long_but_still_allowed_since_names_may_have_127_letters)
int long_name(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

/* The same tag twice is one tag: clang writes it once. */
NEAR_MISS(2)
__exception_cb(callback)
__exception_cb(callback)
int same_tag_twice(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

/* Another tag of the program is none of the kernel's business. */
NEAR_MISS(1)
__attribute__((btf_decl_tag("exception_callbacks:nowhere"))) int similar_tag(struct __sk_buff *skb)
{
	bpf_throw(1);
	return 0;
}

/* Only the tag of the program counts, not that of a global function that it calls. */
__exception_cb(callback)
__noinline int tagged(__u64 x)
{
	barrier_var(x);
	bpf_throw(x);
	return 0;
}

NEAR_MISS(64)
int tag_on_a_function(struct __sk_buff *skb)
{
	return tagged(skb->len);
}

/* A callback that nobody throws to is looked at all the same, and here it is fine. */
NEAR_MISS(64)
__exception_cb(callback)
int never_throws(struct __sk_buff *skb)
{
	return skb->len;
}

char LICENSE[] SEC("license") = "GPL";
