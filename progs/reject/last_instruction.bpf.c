// SPDX-License-Identifier: GPL-2.0-only
/* A function ends in an exit or a jump, not in a throw, though nothing ever runs behind it. */
#include "verdict.h"

#define ENDS  REFUSED(22, "last insn is not an exit or jmp")
#define NAKED __attribute__((naked))

ENDS NAKED int main_ends_in_throw(void)
{
	asm volatile("r1 = 3; call %[throw];" ::[throw] "i"(bpf_throw));
}

static NAKED __noinline int end_of_static(void)
{
	asm volatile("r1 = 3; call %[throw];" ::[throw] "i"(bpf_throw));
}

NAKED __noinline int end_of_global(void)
{
	asm volatile("r1 = 3; call %[throw];" ::[throw] "i"(bpf_throw));
}

ENDS int static_ends_in_throw(struct __sk_buff *skb)
{
	return end_of_static();
}

ENDS int global_ends_in_throw(struct __sk_buff *skb)
{
	return end_of_global();
}

/* A conditional jump falls through, too, if only as far as the verifier cares. */
ENDS NAKED int ends_in_condition(void)
{
	asm volatile("r0 = 0;"
		     "goto 1f;"
		     "2: r1 = 3; call %[throw];"
		     "1: if r0 == 0 goto 2b;" ::[throw] "i"(bpf_throw));
}

NAKED int callback_end(void)
{
	asm volatile("r0 = r1; r0 += 1;");
}

ENDS __exception_cb(callback_end)
int callback_ends_in_sum(struct __sk_buff *skb)
{
	bpf_throw(3);
	return 0;
}

/* Whatever comes behind the throw is not verified: r0 has no value here. */
NEAR_MISS(3)
NAKED int exit_behind_throw(void)
{
	asm volatile("r1 = 3; call %[throw]; exit;" ::[throw] "i"(bpf_throw));
}

/* A jump backwards is an end as well. */
NEAR_MISS(3)
NAKED int ends_in_jump(void)
{
	asm volatile("goto 1f;"
		     "2: r1 = 3; call %[throw];"
		     "r0 = 0; exit;"
		     "1: goto 2b;" ::[throw] "i"(bpf_throw));
}

/* Nor are registers looked at that were never written, behind the throw. */
NEAR_MISS(3)
NAKED int garbage_behind_throw(void)
{
	asm volatile("r1 = 3; call %[throw]; r0 = r9; r0 = *(u64 *)(r8 + 0); exit;" ::[throw] "i"(
		bpf_throw));
}

/* The same rubbish is looked at on a path that does not throw. */
REFUSED(13, "R9 !read_ok")
NAKED int garbage_beside_throw(void)
{
	asm volatile("r1 = *(u32 *)(r1 + 0);"
		     "if r1 > 5 goto 1f;"
		     "call %[throw];"
		     "1: r0 = r9; exit;" ::[throw] "i"(bpf_throw));
}

char LICENSE[] SEC("license") = "GPL";
