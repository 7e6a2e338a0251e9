// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel's own types say decides what a program does, and whether it throws. The
 * structs here are short and in another order than the kernel's: CO-RE relocations find the place.
 */
#include "exceptions.h"
#include <bpf/bpf_core_read.h>

#define RELOC __attribute__((preserve_access_index))

struct task_struct {
	int no_such_field;
	int pid;
	int tgid;
	char comm[4];
} RELOC;

struct no_such_struct {
	int field;
} RELOC;

/* The context, its fields the other way round: the flavour behind ___ is not part of the name. */
struct __sk_buff___short {
	__u32 mark;
	__u32 len;
} RELOC;

SEC("tc") __success
__retval(40)
__hook("test_run")
int throws_without_field(struct __sk_buff *ctx)
{
	struct task_struct *task = (void *)ctx;

	if (!bpf_core_field_exists(task->pid) || !bpf_core_type_exists(struct task_struct))
		bpf_throw(1);
	if (bpf_core_type_exists(struct no_such_struct))
		bpf_throw(2);
	if (!bpf_core_field_exists(task->no_such_field))
		bpf_throw(40);
	return 3;
}

/*
 * No tag says where pid is and how large a task: each kernel has its own answer, its image tells
 * the simulator, and both must have left the same here.
 */
__u64 pid_at, task_bytes;

SEC("tc") __success
__retval(16)
__hook("test_run")
int throws_size_of_field(struct __sk_buff *ctx)
{
	struct task_struct *task = (void *)ctx;

	pid_at = bpf_core_field_offset(task->pid);
	bpf_throw(bpf_core_field_size(task->comm));
	return 0;
}

SEC("tc") __success
__retval(5)
__hook("test_run")
int size_of_struct(struct __sk_buff *ctx)
{
	task_bytes = bpf_core_type_size(struct task_struct);
	bpf_throw(bpf_core_type_size(struct no_such_struct) + 5);
	return 0;
}

SEC("tc") __success
__retval(64)
__hook("test_run")
int relocated_load(struct __sk_buff *ctx)
{
	struct __sk_buff___short *skb = (void *)ctx;

	if (skb->mark)
		bpf_throw(skb->mark);
	bpf_throw(skb->len);
	return 0;
}

/* The read of the absent field is poison, and dead: the verifier never gets there. */
SEC("tc") __success
__retval(6)
__hook("test_run")
int guarded_poison(struct __sk_buff *ctx)
{
	struct no_such_struct *nothing = (void *)ctx;

	if (bpf_core_field_exists(nothing->field))
		return nothing->field;
	bpf_throw(6);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
