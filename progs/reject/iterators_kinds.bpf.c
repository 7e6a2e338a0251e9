// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every kind of open-coded iterator is a reference, not only that of numbers: bits of memory,
 * tasks, a task's memory areas, control groups and their tasks, slab caches, DMA buffers.
 */
#include "verdict.h"

/* Only named: libbpf wants the types of kernel functions to be there, whatever is in them. */
struct task_struct {
};
struct vm_area_struct {
};
struct cgroup {
};
struct cgroup_subsys_state {
};
struct kmem_cache {
};
struct dma_buf {
};

extern struct cgroup *bpf_cgroup_from_id(__u64 id) __weak __ksym;
extern void bpf_cgroup_release(struct cgroup *cgroup) __weak __ksym;

/* An iterator of SIZE * 8 bytes over what RETURNS points to, made from the arguments. */
#define ITERATOR(kind, size, returns, arguments...)                                              \
	struct bpf_iter_##kind {                                                                 \
		__u64 __opaque[size];                                                            \
	} __attribute__((aligned(8)));                                                           \
	extern int bpf_iter_##kind##_new(struct bpf_iter_##kind *it, ##arguments) __weak __ksym; \
	extern returns *bpf_iter_##kind##_next(struct bpf_iter_##kind *it) __weak __ksym;        \
	extern void bpf_iter_##kind##_destroy(struct bpf_iter_##kind *it) __weak __ksym
ITERATOR(bits, 2, int, const __u64 *words, __u32 count);
ITERATOR(task, 3, struct task_struct, struct task_struct *task, unsigned int flags);
ITERATOR(task_vma, 1, struct vm_area_struct, struct task_struct *task, __u64 address);
ITERATOR(css, 3, struct cgroup_subsys_state, struct cgroup_subsys_state *css, unsigned int flags);
ITERATOR(css_task, 1, struct task_struct, struct cgroup_subsys_state *css, unsigned int flags);
ITERATOR(kmem_cache, 1, struct kmem_cache);
ITERATOR(dmabuf, 1, struct dma_buf);

#define LIVES(section)   \
	SEC("?" section) \
	__failure        \
	__errno(22)      \
	__msg("Unreleased reference")
#define LOADS(section)             \
	SEC("?" section) __success \
	__hook("load")
#define SINCE_6_18(kind)         \
	__on("6.12", "failure")  \
	__on("6.12", "errno=22") \
	__on("6.12", "msg=1=kfunc 'bpf_iter_" #kind "_new' is referenced but wasn't resolved")

/* Born, and a throw where it still lives. */
#define ALIVE(kind, name, arguments...)                  \
	int name(void *ctx)                              \
	{                                                \
		struct bpf_iter_##kind it;               \
                                                         \
		bpf_iter_##kind##_new(&it, ##arguments); \
		if (bpf_get_prandom_u32() > 10)          \
			bpf_throw(0);                    \
		bpf_iter_##kind##_destroy(&it);          \
		return 0;                                \
	}

LIVES("tc")
int bits(struct __sk_buff *skb)
{
	struct bpf_iter_bits bits;
	__u64 word = skb->len;
	int *bit;

	bpf_iter_bits_new(&bits, &word, 1);
	while ((bit = bpf_iter_bits_next(&bits)))
		bpf_assert_with(*bit != 6, 6);
	bpf_iter_bits_destroy(&bits);
	return 0;
}

LIVES("tc")
ALIVE(task, task, 0, 0)

#define CURRENT ((void *)bpf_get_current_task_btf())
LIVES("tc")
ALIVE(task_vma, task_vma, CURRENT, 0)

/* Over the control group of all: given back first, so that only the iterator is held. */
#define OVER_GROUPS(kind)                                     \
	int kind(void *ctx)                                   \
	{                                                     \
		struct cgroup *group = bpf_cgroup_from_id(1); \
		struct bpf_iter_##kind it;                    \
                                                              \
		if (!group)                                   \
			return 0;                             \
		bpf_iter_##kind##_new(&it, (void *)group, 1); \
		bpf_cgroup_release(group);                    \
		if (bpf_get_prandom_u32() > 10)               \
			bpf_throw(0);                         \
		bpf_iter_##kind##_destroy(&it);               \
		return 0;                                     \
	}
LIVES("tc")
OVER_GROUPS(css)
LIVES("lsm.s/file_open")
OVER_GROUPS(css_task)

LIVES("syscall")
SINCE_6_18(kmem_cache)
ALIVE(kmem_cache, kmem_cache)
LIVES("syscall")
SINCE_6_18(dmabuf)
ALIVE(dmabuf, dmabuf)

/* ---- most of them, one after the other, and a throw behind their ends ---- */

#define COUNT(kind, count, arguments...)                 \
	do {                                             \
		struct bpf_iter_##kind it;               \
                                                         \
		bpf_iter_##kind##_new(&it, ##arguments); \
		if (bpf_iter_##kind##_next(&it))         \
			count++;                         \
		bpf_iter_##kind##_destroy(&it);          \
	} while (0)

LOADS("tc")
int ended(struct __sk_buff *skb)
{
	struct cgroup *group = bpf_cgroup_from_id(1);
	__u64 word = skb->len;
	__u32 found = 0;

	if (!group)
		return 0;
	COUNT(css, found, (void *)group, 1);
	bpf_cgroup_release(group);
	COUNT(bits, found, &word, 1);
	COUNT(task, found, 0, 0);
	COUNT(task_vma, found, CURRENT, 0);
	bpf_throw(found);
	return 0;
}

LOADS("syscall")
SINCE_6_18(kmem_cache)
int ended_caches(void *ctx)
{
	__u32 found = 0;

	COUNT(kmem_cache, found);
	COUNT(dmabuf, found);
	bpf_throw(found);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
