// SPDX-License-Identifier: GPL-2.0-only
/* A field that no kernel has, read without a guard: libbpf poisons the load. */
#include "exceptions.h"

struct task_struct {
	int no_such_field;
} __attribute__((preserve_access_index));

SEC("tc") __failure
__errno(22)
__msg("failed to resolve CO-RE relocation <byte_off> {{.*}} struct task_struct.no_such_field")
int refused(struct __sk_buff *ctx)
{
	struct task_struct *task = (void *)ctx;

	if (task->no_such_field)
		bpf_throw(1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
