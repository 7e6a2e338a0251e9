/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * BPF exceptions for programs in C: bpf_throw(), the exception callback, assertions, and the
 * tags by which a program says what should become of it. docs/writing-cases.md explains each.
 */
#ifndef BPFTHROW_EXCEPTIONS_H
#define BPFTHROW_EXCEPTIONS_H

#ifndef __VMLINUX_H__ /* that file has all types, and must come first */
#include <linux/bpf.h>
#endif
#include <bpf/bpf_helpers.h>

#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif
#undef __noinline
#define __noinline __attribute__((noinline))

/*
 * Leave the program: the callback of the nearest program on the stack gets the cookie, its
 * value becomes the program's. Weak, so that a kernel without it answers with its verifier's
 * words. Not noreturn: a function that ends in a call is refused by every kernel.
 */
extern void bpf_throw(__u64 cookie) __weak __ksym;

#define __bpfthrow_str(x...)	    #x
#define __bpfthrow_expand(x...)	    __bpfthrow_str(x)
#define __bpfthrow_tag(text...)	    __attribute__((btf_decl_tag(text)))
#define __bpfthrow_ours(key, value) __bpfthrow_tag("bpfthrow:" key "=" value)
/* Tags of one function have no order of their own: those that need one carry a number. */
#define __bpfthrow_number __bpfthrow_expand(__COUNTER__)

/* The function called NAME, global and with one integer parameter, gets the cookie. */
#define __exception_cb(name) __bpfthrow_tag("exception_callback:" #name)

/* A parameter of a global function that is the program's own context (Linux 6.8). */
#ifndef __arg_ctx
#define __arg_ctx __bpfthrow_tag("arg:ctx")
#endif

/* ---- assertions ------------------------------------------------------------------------ */

/* Throw `cookie` unless the condition holds. */
#define bpf_assert_with(cond, cookie)               \
	do {                                        \
		if (!(cond))                        \
			bpf_throw((__u64)(cookie)); \
	} while (0)

#define bpf_assert(cond) bpf_assert_with(cond, 0)

/*
 * The relational ones compare the register that holds LHS by one instruction that the compiler
 * can neither drop nor replace by a test of something else, so that the verifier learns the
 * bound of exactly this value. The width is that of LHS (32 bits for anything smaller), the
 * signedness is LHS's, and RHS is converted to LHS's type first.
 */
#define __bpfthrow_signed(x) ((typeof(x))-1 < (typeof(x))1)

#define __bpfthrow_branch(constraint, op, lhs, rhs, cookie)         \
	do {                                                        \
		__label__ l_holds;                                  \
		asm goto("if %[l] " op " %[r] goto %l[l_holds]"     \
			 : /* no output */                          \
			 : [l] constraint(lhs), [r] constraint(rhs) \
			 : /* no clobber */                         \
			 : l_holds);                                \
		bpf_throw((__u64)(cookie));                         \
	l_holds:;                                                   \
	} while (0)

#define __bpfthrow_compare(lhs, unsigned_op, signed_op, rhs, cookie)                             \
	do {                                                                                     \
		typeof(lhs) __lhs = (lhs);                                                       \
		typeof(lhs) __rhs = (typeof(lhs))(rhs);                                          \
		if (sizeof(__lhs) == 8 && __bpfthrow_signed(lhs))                                \
			__bpfthrow_branch("r", signed_op, (__s64)__lhs, (__s64)__rhs, cookie);   \
		else if (sizeof(__lhs) == 8)                                                     \
			__bpfthrow_branch("r", unsigned_op, (__u64)__lhs, (__u64)__rhs, cookie); \
		else if (__bpfthrow_signed(lhs))                                                 \
			__bpfthrow_branch("w", signed_op, (__s32)__lhs, (__s32)__rhs, cookie);   \
		else                                                                             \
			__bpfthrow_branch("w", unsigned_op, (__u32)__lhs, (__u32)__rhs, cookie); \
	} while (0)

#define bpf_assert_eq_with(LHS, RHS, cookie) __bpfthrow_compare(LHS, "==", "==", RHS, cookie)
#define bpf_assert_ne_with(LHS, RHS, cookie) __bpfthrow_compare(LHS, "!=", "!=", RHS, cookie)
#define bpf_assert_lt_with(LHS, RHS, cookie) __bpfthrow_compare(LHS, "<", "s<", RHS, cookie)
#define bpf_assert_gt_with(LHS, RHS, cookie) __bpfthrow_compare(LHS, ">", "s>", RHS, cookie)
#define bpf_assert_le_with(LHS, RHS, cookie) __bpfthrow_compare(LHS, "<=", "s<=", RHS, cookie)
#define bpf_assert_ge_with(LHS, RHS, cookie) __bpfthrow_compare(LHS, ">=", "s>=", RHS, cookie)

#define bpf_assert_eq(LHS, RHS) bpf_assert_eq_with(LHS, RHS, 0)
#define bpf_assert_ne(LHS, RHS) bpf_assert_ne_with(LHS, RHS, 0)
#define bpf_assert_lt(LHS, RHS) bpf_assert_lt_with(LHS, RHS, 0)
#define bpf_assert_gt(LHS, RHS) bpf_assert_gt_with(LHS, RHS, 0)
#define bpf_assert_le(LHS, RHS) bpf_assert_le_with(LHS, RHS, 0)
#define bpf_assert_ge(LHS, RHS) bpf_assert_ge_with(LHS, RHS, 0)

/* Both ends belong to the range. */
#define bpf_assert_range_with(LHS, BEG, END, cookie)      \
	do {                                              \
		typeof(LHS) __value = (LHS);              \
		bpf_assert_ge_with(__value, BEG, cookie); \
		bpf_assert_le_with(__value, END, cookie); \
	} while (0)

#define bpf_assert_range(LHS, BEG, END) bpf_assert_range_with(LHS, BEG, END, 0)

/* ---- what should become of the program: read by harness/suite.py ------------------------ */

/* Names as in the kernel's selftests, where they mean a little less: their tags are others. */
#define __retval(value) __bpfthrow_ours("retval", __bpfthrow_expand(value))
#define __success	__bpfthrow_tag("bpfthrow:success")
#define __failure	__bpfthrow_tag("bpfthrow:failure")
#define __msg(text)	__bpfthrow_ours("msg", __bpfthrow_number "=" text)

/* Ours alone. */
#define __hook(name)		 __bpfthrow_ours("hook", name)
#define __input(name, spec)	 __bpfthrow_ours("input", __bpfthrow_number "=" #name "=" spec)
#define __retval_of(name, value) __bpfthrow_ours("retval", #name "=" __bpfthrow_expand(value))
#define __global_is(variable, value) \
	__bpfthrow_ours("global", #variable "=" __bpfthrow_expand(value))
#define __needs(feature)   __bpfthrow_ours("needs", feature)
#define __repeat(times)	   __bpfthrow_ours("repeat", __bpfthrow_expand(times))
#define __with(program)	   __bpfthrow_ours("with", #program)
#define __errno(number)	   __bpfthrow_ours("errno", __bpfthrow_expand(number))
#define __on(series, what) __bpfthrow_ours("on", series "=" what)
#define __traced(how)	   __bpfthrow_ours("traced", how)
#define __crashes(why)	   __bpfthrow_ours("crashes", why)
#define __target	   __bpfthrow_tag("bpfthrow:target")

#endif
