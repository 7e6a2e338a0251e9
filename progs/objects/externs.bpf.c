// SPDX-License-Identifier: GPL-2.0-only
/* Names that the kernel is asked for: its version, functions, variables; some are not there. */
#include "exceptions.h"

#ifndef bpf_ksym_exists
#define bpf_ksym_exists(symbol) (!!(symbol))
#endif

extern int LINUX_KERNEL_VERSION __kconfig;
extern int LINUX_NO_SUCH_VALUE __kconfig __weak;
extern _Bool LINUX_HAS_SYSCALL_WRAPPER __kconfig;

/* Only the name and the kind have to be the kernel's. */
struct rq {
	int nothing;
};

extern int bpf_no_such_function(int x) __weak __ksym;
extern const struct rq runqueues __weak __ksym;
extern const struct rq no_such_runqueues __weak __ksym;

/* The simulator has it out of the image's header: both must leave the same here. */
int version;

/* No kernel before 6.7 can throw at all. */
SEC("tc") __success
__retval(67)
__hook("test_run")
int throws_by_version(struct __sk_buff *ctx)
{
	version = LINUX_KERNEL_VERSION;
	if (LINUX_NO_SUCH_VALUE || !LINUX_HAS_SYSCALL_WRAPPER)
		bpf_throw(1);
	bpf_throw(LINUX_KERNEL_VERSION >= 0x60700 ? 67 : 2);
	return 0;
}

/* libbpf makes an invalid call of the absent function, which is never reached. */
SEC("tc") __success
__retval(9)
__hook("test_run")
int throws_without_function(struct __sk_buff *ctx)
{
	if (bpf_ksym_exists(bpf_no_such_function))
		return bpf_no_such_function(2);
	bpf_throw(9);
	return 0;
}

SEC("tc") __success
__retval(12)
__hook("test_run")
int throws_without_variable(struct __sk_buff *ctx)
{
	if (!&runqueues)
		return 1;
	if (!&no_such_runqueues)
		bpf_throw(12);
	return 2;
}

char LICENSE[] SEC("license") = "GPL";
