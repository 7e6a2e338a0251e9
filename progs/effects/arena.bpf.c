// SPDX-License-Identifier: GPL-2.0-only
/* Arena pages: what was written before the throw stays, pages that are not there read as 0. */
#include "exceptions.h"

#define __arena	   __attribute__((address_space(1)))
#define PAGE_BYTES 4096
#define BASE	   (0x1ull << 44 | 0x10000)

#ifndef __ulong
#define __ulong(name, val) enum { name##_value = val } name
#endif

struct {
	__uint(type, 33); /* BPF_MAP_TYPE_ARENA, which older headers do not have */
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 8); /* pages */
	__ulong(map_extra, BASE);
} arena SEC(".maps");

extern void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 pages, int node,
					   __u64 flags) __weak __ksym;
extern void bpf_arena_free_pages(void *map, void __arena *ptr, __u32 pages) __weak __ksym;

#define ALLOC(addr, pages) bpf_arena_alloc_pages(&arena, (void __arena *)(addr), pages, -1, 0)
#define PAGE(n)		   ((__u32 __arena *)(BASE + (n) * PAGE_BYTES))

__u32 __arena runs = 40;
__u64 first, second, beyond, again, taken, unaligned;

static __noinline __u32 use(__u32 __arena *page)
{
	page[0] = 7;
	page[PAGE_BYTES / 4 - 1] += 5;
	bpf_throw(page[0] + page[PAGE_BYTES / 4 - 1]);
	return 1;
}

SEC("syscall") __success
__repeat(3)
__retval(12)
int thrown(void *ctx)
{
	__u32 __arena *page = PAGE(3);

	runs++;
	if (runs == 41)
		page = ALLOC(page, 1);
	else if (page[0] == 7)
		page[PAGE_BYTES / 4 - 1] = 0;
	return use(page);
}

SEC("syscall") __success
__repeat(3)
__retval(3)
int kept(void *ctx)
{
	__u32 __arena *page = PAGE(2);

	if (!*page && !ALLOC(page, 1))
		return 0;
	(*page)++;
	if (runs != 40)
		return 100;
	bpf_throw(3);
	return 200;
}

SEC("syscall") __success
__retval(0)
int missing(void *ctx)
{
	volatile __u32 __arena *page = PAGE(5);
	__u32 before = page[1];

	/* a program has an arena because it refers to one */
	bpf_arena_free_pages(&arena, 0, 1);
	page[1] = 9;
	bpf_throw(before + page[1]);
	return 77;
}

SEC("syscall") __success
__retval(4)
int limits(void *ctx)
{
	__u32 __arena *page;

	first = (__u64)ALLOC(0, 2);
	second = (__u64)ALLOC(BASE + 5 * PAGE_BYTES, 2);
	beyond = (__u64)ALLOC(BASE + 7 * PAGE_BYTES, 2);
	taken = (__u64)ALLOC(BASE + 6 * PAGE_BYTES, 1);
	unaligned = (__u64)ALLOC(BASE + 8, 1);
	page = PAGE(5);
	*page = 4;
	bpf_arena_free_pages(&arena, page + PAGE_BYTES / 4, 9);
	again = (__u64)ALLOC(BASE + 6 * PAGE_BYTES, 2);
	bpf_throw(*page);
	return 0;
}

SEC("syscall") __success
__retval(1)
int fitting(void *ctx)
{
	first = (__u64)ALLOC(0, 7);
	bpf_arena_free_pages(&arena, (void __arena *)(BASE + 2 * PAGE_BYTES), 3);
	bpf_arena_free_pages(&arena, (void __arena *)(BASE + 6 * PAGE_BYTES), 2);
	second = (__u64)ALLOC(0, 2);
	again = (__u64)ALLOC(0, 1);
	taken = (__u64)ALLOC(0, 1);
	bpf_throw(first == BASE + PAGE_BYTES);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
