// SPDX-License-Identifier: GPL-2.0-only
/*
 * Callbacks that kernel functions call, and bpf_find_vma(): none may throw, as those of
 * throw_in_callbacks.bpf.c. What orders a tree is called under a lock, which is noticed first.
 */
#include <stdbool.h>
#include "verdict.h"
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
struct bpf_rb_root {
	__u64 __opaque[2];
} __attribute__((aligned(8)));

struct bpf_rb_node {
	__u64 __opaque[4];
} __attribute__((aligned(8)));
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
struct bpf_wq {
	__u64 __opaque[2];
} __attribute__((aligned(8)));
#endif

/* Only named: libbpf wants the types of kernel functions to be there, whatever is in them. */
struct task_struct {
};
struct vm_area_struct {
};

typedef int work_callback(void *map, int *key, void *value);
typedef bool order(struct bpf_rb_node *one, const struct bpf_rb_node *other);

/* The one is the other's name up to 6.18. */
extern int bpf_wq_set_callback_impl(struct bpf_wq *wq, work_callback *callback, unsigned int flags,
				    void *aux) __weak __ksym;
extern int bpf_wq_set_callback(struct bpf_wq *wq, work_callback *callback,
			       unsigned int flags) __weak __ksym;
extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __weak __ksym;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node, order *less,
			       void *meta, __u64 off) __weak __ksym;

#define bpf_core_type_id_local(type) __builtin_btf_type_id(*(type *)0, 0)

__u64 seen;

/* ---- work queues ---- */

struct waiting {
	struct bpf_wq work;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct waiting);
} queue SEC(".maps");

static int work_throws(void *map, int *key, void *value)
{
	bpf_throw(0);
	return 0;
}

static int work_counts(void *map, int *key, void *value)
{
	seen++;
	return 0;
}

#define QUEUE(name, callback)                                                     \
	int name(struct __sk_buff *skb)                                           \
	{                                                                         \
		__u32 key = 0;                                                    \
		struct waiting *waiting = bpf_map_lookup_elem(&queue, &key);      \
                                                                                  \
		if (!waiting)                                                     \
			return 0;                                                 \
		if (bpf_wq_set_callback)                                          \
			bpf_wq_set_callback(&waiting->work, callback, 0);         \
		else                                                              \
			bpf_wq_set_callback_impl(&waiting->work, callback, 0, 0); \
		bpf_throw(1);                                                     \
		return 0;                                                         \
	}
#define IN_CALLBACK(section) \
	SEC("?" section)     \
	__failure            \
	__errno(22)          \
	__msg("bpf_throw kfunc (insn {{[0-9]+}}) cannot be called from callback")
#define LOADS(section)             \
	SEC("?" section) __success \
	__hook("load")

IN_CALLBACK("tc")
QUEUE(work, work_throws)
LOADS("tc")
QUEUE(throw_behind_work, work_counts)

/* ---- memory areas of a task ---- */

static long area_throws(struct task_struct *task, struct vm_area_struct *area, void *unused)
{
	bpf_throw(0);
	return 0;
}

static long area_counts(struct task_struct *task, struct vm_area_struct *area, void *unused)
{
	seen++;
	return 0;
}

#define AREA(name, callback)                                                   \
	int name(void *ctx)                                                    \
	{                                                                      \
		struct task_struct *task = (void *)bpf_get_current_task_btf(); \
                                                                               \
		bpf_throw(bpf_find_vma(task, 0, callback, 0, 0));              \
		return 0;                                                      \
	}
IN_CALLBACK("tracepoint/syscalls/sys_enter_getpid")
AREA(area, area_throws)
LOADS("tracepoint/syscalls/sys_enter_getpid")
AREA(throw_behind_area, area_counts)

/* ---- trees ---- */

struct leaf {
	struct bpf_rb_node node;
	__u64 key;
};

/* Hidden, so that libbpf does not map it: user space may not see a lock. */
#define TREE SEC(".data.tree") __hidden __attribute__((aligned(8)))
TREE struct bpf_spin_lock lock;
TREE struct bpf_rb_root tree __attribute__((btf_decl_tag("contains:leaf:node")));

static bool less_throws(struct bpf_rb_node *one, const struct bpf_rb_node *other)
{
	bpf_throw(0);
	return false;
}

static bool less(struct bpf_rb_node *one, const struct bpf_rb_node *other)
{
	return false;
}

#define GROW(name, less)                                                                      \
	int name(struct __sk_buff *skb)                                                       \
	{                                                                                     \
		struct leaf *leaf = bpf_obj_new_impl(bpf_core_type_id_local(struct leaf), 0); \
                                                                                              \
		if (!leaf)                                                                    \
			return 0;                                                             \
		bpf_spin_lock(&lock);                                                         \
		bpf_rbtree_add_impl(&tree, &leaf->node, less, 0, 0);                          \
		bpf_spin_unlock(&lock);                                                       \
		bpf_throw(1);                                                                 \
		return 0;                                                                     \
	}
REFUSED(22, "function calls are not allowed while holding a lock")
GROW(order_of_tree, less_throws)
LOADS("tc")
GROW(throw_behind_tree, less)

char LICENSE[] SEC("license") = "GPL";
