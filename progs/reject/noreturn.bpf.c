// SPDX-License-Identifier: GPL-2.0-only
/* Declared noreturn, the call is the last instruction of the function: refused everywhere. */
#define bpf_throw bpf_throw_that_returns
#include "exceptions.h"
#undef bpf_throw

extern void bpf_throw(__u64 cookie) __weak __ksym __attribute__((noreturn));

SEC("tc") __failure
__errno(22)
__msg("last insn is not an exit or jmp")
int refused(struct __sk_buff *skb)
{
	bpf_throw(3);
}

char LICENSE[] SEC("license") = "GPL";
