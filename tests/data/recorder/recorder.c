/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What would libbpf hand to the kernel? Opens an object by libbpf, once for each of its programs,
 * and prints the instructions, func_info and line_info of the load. No kernel is asked: this
 * program has its own syscall(), which answers every bpf(2) that libbpf makes while it loads.
 *
 *   recorder OBJECT KCONFIG|- VMLINUX-BTF|-
 *
 * Prints lines of words: "program NAME SECTION", "map NAME FD", "result ERRNO", "insns HEX",
 * "funcs SIZE HEX", "lines SIZE HEX", "log TEXT"; a line "end" closes each program.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* the part of libbpf.h that is needed; its layout is ABI */
struct open_opts {
	size_t sz;
	const char *object_name;
	bool relaxed_maps;
	const char *pin_root_path;
	__u32 : 32;
	const char *kconfig;
	const char *btf_custom_path;
};

#define VMLINUX "/sys/kernel/btf/vmlinux"

static const char *vmlinux;
/* name of the program that is loaded now, as the kernel sees it, and what it was loaded with */
static char wanted[16];
static bool seen;
/* what maps are called, by the descriptor that they were created with */
static char map_names[1024][BPF_OBJ_NAME_LEN];

static void print_hex(const char *word, long size, const void *data, size_t length)
{
	const unsigned char *bytes = data;
	size_t i;

	printf("%s ", word);
	if (size)
		printf("%ld ", size);
	for (i = 0; i < length; i++)
		printf("%02x", bytes[i]);
	printf("\n");
}

static long load_program(const union bpf_attr *attr)
{
	if (wanted[0] && !strncmp(attr->prog_name, wanted, sizeof(wanted) - 1)) {
		seen = true;
		print_hex("insns", 0, (void *)attr->insns, attr->insn_cnt * 8ul);
		print_hex("funcs", attr->func_info_rec_size ?: 1, (void *)attr->func_info,
			  (size_t)attr->func_info_cnt * attr->func_info_rec_size);
		print_hex("lines", attr->line_info_rec_size ?: 1, (void *)attr->line_info,
			  (size_t)attr->line_info_cnt * attr->line_info_rec_size);
	}
	return memfd_create("program", MFD_CLOEXEC);
}

static long create_map(const union bpf_attr *attr)
{
	size_t size = ((size_t)attr->value_size + 7) / 8 * 8 * attr->max_entries;
	int fd = memfd_create("map", MFD_CLOEXEC);

	/* libbpf maps sections of globals into its own memory */
	if (fd >= 0 && attr->map_type == BPF_MAP_TYPE_ARRAY && size < 1 << 24)
		ftruncate(fd, (size + 4095) / 4096 * 4096);
	if (fd >= 0 && fd < 1024)
		memcpy(map_names[fd], attr->map_name, sizeof(map_names[fd]) - 1);
	if (fd >= 0 && attr->map_type == 33 /* arena: newer than some headers */)
		ftruncate(fd, attr->max_entries * 4096ul);
	return fd;
}

static long bpf(int cmd, union bpf_attr *attr)
{
	switch (cmd) {
	case BPF_PROG_LOAD:
		return load_program(attr);
	case BPF_MAP_CREATE:
		return create_map(attr);
	case BPF_BTF_LOAD:
		return memfd_create("btf", MFD_CLOEXEC);
	case BPF_MAP_UPDATE_ELEM:
	case BPF_MAP_FREEZE:
	case BPF_PROG_BIND_MAP:
		return 0;
	case BPF_BTF_GET_NEXT_ID:
	case BPF_OBJ_GET:
		errno = ENOENT;
		return -1;
	default:
		errno = EINVAL;
		return -1;
	}
}

long syscall(long number, ...)
{
	long a[6];
	va_list list;
	int i;
	static long (*next)(long, ...);

	va_start(list, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_bpf)
		return bpf(a[0], (void *)a[1]);
	/* instructions hold a descriptor that was reserved before the map was created */
	if (number == SYS_dup3 && a[0] >= 0 && a[0] < 1024)
		printf("map %s %ld\n", map_names[a[0]], a[1]);
	if (!next)
		next = dlsym(RTLD_NEXT, "syscall");
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

FILE *fopen64(const char *path, const char *mode)
{
	static FILE *(*next)(const char *, const char *);

	if (!next)
		next = dlsym(RTLD_NEXT, "fopen64");
	return next(vmlinux && !strcmp(path, VMLINUX) ? vmlinux : path, mode);
}

int faccessat(int dir, const char *path, int mode, int flags)
{
	static int (*next)(int, const char *, int, int);

	if (!next)
		next = dlsym(RTLD_NEXT, "faccessat");
	return next(dir, vmlinux && !strcmp(path, VMLINUX) ? vmlinux : path, mode, flags);
}

/* the release that tests give to our linker, too */
int uname(struct utsname *name)
{
	memset(name, 0, sizeof(*name));
	strcpy(name->sysname, "Linux");
	strcpy(name->release, "6.12.107+deb13-amd64");
	return 0;
}

static int print(int level, const char *format, va_list args)
{
	char text[1024], *line;

	if (level > 0)
		return 0;
	vsnprintf(text, sizeof(text), format, args);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		printf("log %s\n", line);
	return 0;
}

typedef void object;
typedef void program;
typedef void map;

extern object *bpf_object__open_file(const char *path, const struct open_opts *opts);
extern int bpf_object__load(object *obj);
extern void bpf_object__close(object *obj);
extern program *bpf_object__next_program(const object *obj, program *last);
extern map *bpf_object__next_map(const object *obj, const map *last);
extern int bpf_map__set_pin_path(map *m, const char *path);
extern const char *bpf_program__name(const program *p);
extern const char *bpf_program__section_name(const program *p);
extern int bpf_program__set_autoload(program *p, bool autoload);
extern const void *bpf_program__insns(const program *p);
extern size_t bpf_program__insn_cnt(const program *p);
extern void *libbpf_set_print(int (*print)(int, const char *, va_list));

static object *open_object(const char *path, const char *kconfig)
{
	struct open_opts opts = {.sz = sizeof(opts), .object_name = "o", .kconfig = kconfig};

	return bpf_object__open_file(path, &opts);
}

/* Load program number `index` alone; false when there is none. */
static bool record(const char *path, const char *kconfig, int index)
{
	object *obj = open_object(path, kconfig);
	program *each, *found = NULL;
	map *m;
	int i = 0, err;

	if (!obj) {
		if (!index)
			printf("program - -\nresult %d\nend\n", errno);
		return false;
	}
	for (each = NULL; (each = bpf_object__next_program(obj, each)); i++) {
		bpf_program__set_autoload(each, i == index);
		if (i == index)
			found = each;
	}
	if (found) {
		printf("program %s %s\n", bpf_program__name(found),
		       bpf_program__section_name(found));
		for (m = NULL; (m = bpf_object__next_map(obj, m));)
			bpf_map__set_pin_path(m, NULL);
		snprintf(wanted, sizeof(wanted), "%s", bpf_program__name(found));
		seen = false;
		err = bpf_object__load(obj);
		wanted[0] = 0;
		/* without a load the code is only of use where the log says why there was none */
		if (!seen)
			print_hex("unloaded", 0, bpf_program__insns(found),
				  bpf_program__insn_cnt(found) * 8);
		printf("result %d\nend\n", -err);
	}
	bpf_object__close(obj);
	return found;
}

int main(int argc, char **argv)
{
	int i;

	if (argc != 4)
		return 2;
	vmlinux = strcmp(argv[3], "-") ? argv[3] : NULL;
	libbpf_set_print(print);
	for (i = 0; record(argv[1], strcmp(argv[2], "-") ? argv[2] : NULL, i); i++)
		;
	return 0;
}
