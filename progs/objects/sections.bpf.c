// SPDX-License-Identifier: GPL-2.0-only
/* Globals in sections of their own names: a throw leaves in each what was written. */
#include "exceptions.h"

int counted SEC(".data.counted") = 5;
int cleared SEC(".bss.cleared");
const volatile int limit SEC(".rodata.limits.of.the.program") = 7;
/* not seen from outside: its section is no less there */
__attribute__((visibility("hidden"))) int hidden SEC(".data.hidden_variables") = 20;

SEC("tc") __success
__retval(27)
__hook("test_run")
__repeat(3)
__global_is(counted, 8)
__global_is(cleared, 12)
int throws_over_limit(struct __sk_buff *ctx)
{
	cleared += 4;
	if (++counted > limit)
		bpf_throw(limit + hidden);
	return counted;
}

char LICENSE[] SEC("license") = "GPL";
