// SPDX-License-Identifier: GPL-2.0-only
/* Enumerators by name: here they have other numbers than in the kernel. */
#include "exceptions.h"
#include <bpf/bpf_core_read.h>

enum bpf_map_type___mine {
	BPF_MAP_TYPE_HASH___mine = 77,
	BPF_MAP_TYPE_ARRAY___mine = 88,
	BPF_MAP_TYPE_NO_SUCH___mine = 99,
};

SEC("tc") __success
__retval(2)
__hook("test_run")
int value_of_the_kernel(struct __sk_buff *ctx)
{
	bpf_throw(bpf_core_enum_value(enum bpf_map_type___mine, BPF_MAP_TYPE_ARRAY___mine));
	return 0;
}

SEC("tc") __success
__retval(5)
__hook("test_run")
int throws_without_enumerator(struct __sk_buff *ctx)
{
	if (!bpf_core_enum_value_exists(enum bpf_map_type___mine, BPF_MAP_TYPE_HASH___mine))
		return 1;
	if (!bpf_core_enum_value_exists(enum bpf_map_type___mine, BPF_MAP_TYPE_NO_SUCH___mine))
		bpf_throw(5);
	return 2;
}

char LICENSE[] SEC("license") = "GPL";
