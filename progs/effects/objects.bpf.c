// SPDX-License-Identifier: GPL-2.0-only
/* Allocated objects in lists and trees: what a throw leaves in them is there in the next run. */
#include "exceptions.h"
#include <linux/version.h>
#include <bpf/bpf_core_read.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
struct bpf_list_head {
	__u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_list_node {
	__u64 opaque[3];
} __attribute__((aligned(8)));
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
struct bpf_rb_root {
	__u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_rb_node {
	__u64 opaque[4];
} __attribute__((aligned(8)));
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
struct bpf_refcount {
	__u32 opaque[1];
} __attribute__((aligned(4)));
#endif

extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __ksym;
extern void *bpf_refcount_acquire_impl(void *object, void *meta) __ksym;
extern int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node,
				    void *meta, __u64 off) __ksym;
extern int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node,
				   void *meta, __u64 off) __ksym;
extern struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head) __ksym;
extern struct bpf_list_node *bpf_list_pop_back(struct bpf_list_head *head) __ksym;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
			       _Bool (*less)(struct bpf_rb_node *, const struct bpf_rb_node *),
			       void *meta, __u64 off) __ksym;
extern struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root) __ksym;
extern struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root,
					     struct bpf_rb_node *node) __ksym;

#define new(type)		  ((type *)bpf_obj_new_impl(bpf_core_type_id_local(type), NULL))
#define drop(object)		  bpf_obj_drop_impl(object, NULL)
#define contains(type, member)	  __attribute__((btf_decl_tag("contains:" #type ":" #member)))
#define of(pointer, type, member) ((type *)((void *)(pointer) - __builtin_offsetof(type, member)))
#define NO_MEMORY		  99

struct item {
	struct bpf_list_node node;
	long value;
};

struct leaf {
	struct bpf_rb_node node;
	struct bpf_refcount count;
	long value;
};

struct shelf {
	struct bpf_spin_lock lock;
	struct bpf_list_head head contains(item, node);
};

struct forest {
	struct bpf_spin_lock lock;
	struct bpf_rb_root root contains(leaf, node);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shelf);
} shelves SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct forest);
} forests SEC(".maps");

static __noinline int push(struct shelf *shelf, long value, int back)
{
	struct item *item = new (struct item);
	int result;

	if (!item)
		return NO_MEMORY;
	item->value = value;
	bpf_spin_lock(&shelf->lock);
	if (back)
		result = bpf_list_push_back_impl(&shelf->head, &item->node, NULL, 0);
	else
		result = bpf_list_push_front_impl(&shelf->head, &item->node, NULL, 0);
	bpf_spin_unlock(&shelf->lock);
	return result;
}

static __noinline long pop(struct shelf *shelf, int back)
{
	struct bpf_list_node *node;
	long value;

	bpf_spin_lock(&shelf->lock);
	node = back ? bpf_list_pop_back(&shelf->head) : bpf_list_pop_front(&shelf->head);
	bpf_spin_unlock(&shelf->lock);
	if (!node)
		return 0;
	value = of(node, struct item, node)->value;
	drop(of(node, struct item, node));
	return value;
}

static _Bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return of(a, struct leaf, node)->value < of(b, struct leaf, node)->value;
}

static __noinline int plant(struct forest *forest, long value)
{
	struct leaf *leaf = new (struct leaf);
	int result;

	if (!leaf)
		return NO_MEMORY;
	leaf->value = value;
	bpf_spin_lock(&forest->lock);
	result = bpf_rbtree_add_impl(&forest->root, &leaf->node, less, NULL, 0);
	bpf_spin_unlock(&forest->lock);
	return result;
}

static __noinline long pick(struct forest *forest)
{
	struct bpf_rb_node *node, *taken = NULL;
	long value;

	bpf_spin_lock(&forest->lock);
	node = bpf_rbtree_first(&forest->root);
	if (node)
		taken = bpf_rbtree_remove(&forest->root, node);
	bpf_spin_unlock(&forest->lock);
	if (!taken)
		return 0;
	value = of(taken, struct leaf, node)->value;
	drop(of(taken, struct leaf, node));
	return value;
}

/* Front, back, and an empty list. */
SEC("tc") __success
__retval(3120)
__hook("test_run")
int list_order(struct __sk_buff *skb)
{
	struct shelf *shelf = bpf_map_lookup_elem(&shelves, &(__u32){0});
	long sum;

	if (!shelf)
		return NO_MEMORY;
	if (push(shelf, 1, 1) || push(shelf, 2, 1) || push(shelf, 3, 0))
		return NO_MEMORY;
	sum = pop(shelf, 0) * 1000;
	sum += pop(shelf, 0) * 100;
	sum += pop(shelf, 1) * 10;
	return sum + pop(shelf, 1);
}

/* Each run throws what the run before left in the list, which the throw does not touch. */
SEC("tc") __success
__repeat(3)
__retval(20)
__hook("test_run")
int list_survives(struct __sk_buff *skb)
{
	struct shelf *shelf = bpf_map_lookup_elem(&shelves, &(__u32){0});
	long value;

	if (!shelf)
		return NO_MEMORY;
	value = pop(shelf, 0);
	push(shelf, value + 10, 0);
	bpf_throw(value);
	return 1;
}

SEC("tc") __success
__retval(1230)
__hook("test_run")
int tree_order(struct __sk_buff *skb)
{
	struct forest *forest = bpf_map_lookup_elem(&forests, &(__u32){0});
	long sum;

	if (!forest)
		return NO_MEMORY;
	if (plant(forest, 3) || plant(forest, 1) || plant(forest, 2))
		return NO_MEMORY;
	sum = pick(forest) * 1000;
	sum += pick(forest) * 100;
	sum += pick(forest) * 10;
	return sum + pick(forest);
}

/* A second reference outlives the tree's; a leaf that is in a tree already is refused. */
SEC("tc") __success
__retval(122)
__hook("test_run")
int second_reference(struct __sk_buff *skb)
{
	struct forest *forest = bpf_map_lookup_elem(&forests, &(__u32){0});
	struct leaf *leaf, *again, *third;
	int refused;

	if (!forest)
		return NO_MEMORY;
	leaf = new (struct leaf);
	if (!leaf)
		return NO_MEMORY;
	leaf->value = 100;
	again = bpf_refcount_acquire_impl(leaf, NULL);
	third = bpf_refcount_acquire_impl(leaf, NULL);
	if (!again || !third)
		goto out;
	bpf_spin_lock(&forest->lock);
	bpf_rbtree_add_impl(&forest->root, &leaf->node, less, NULL, 0);
	refused = bpf_rbtree_add_impl(&forest->root, &again->node, less, NULL, 0);
	bpf_spin_unlock(&forest->lock);
	pick(forest);
	refused = third->value - refused;
	drop(third);
	bpf_throw(refused);
	return 1;
out:
	drop(leaf);
	if (again)
		drop(again);
	if (third)
		drop(third);
	return NO_MEMORY;
}

char LICENSE[] SEC("license") = "GPL";
