# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# ruff: noqa: E501  # lines of a kernel log are as long as they are
"""Each kind of complaint is one splat, with its title and the functions that it is about.

The reports are written after what the kernel's own functions print (named beside each, Linux 7.3),
for kernels that we do not build; those that a guest can be made to print are recorded, and in
test_splats.py.
"""

import datetime as dt
import re

import pytest

from harness.target.splats import find_splats, load_rules

HEAD = (
    "CPU: 0 UID: 0 PID: 152 Comm: python3 Not tainted 7.3.4 #1 PREEMPT(lazy)\nHardware name: QEMU\n"
)


def trace(*functions):
    """dump_stack() of arch/x86/kernel/dumpstack.c: a guess, then the functions."""
    lines = [f" {name}+0x1c/0x2d0" for name in functions]
    return "\n".join(["Call Trace:", " <TASK>", " ? guess+0x1/0x2", *lines, " </TASK>"])


# name -> report, title, functions
KINDS = {
    # mm/kasan/report.c: start_report(), print_error_description(), print_address_description()
    "kasan": (
        "=" * 66 + "\nBUG: KASAN: slab-use-after-free in bpf_throw+0x120/0x2d0\n"
        "Read of size 8 at addr ffff888004a1b2c0 by task python3/152\n\n" + HEAD
        + trace("dump_stack_lvl", "print_report", "kasan_report", "__asan_report_load8_noabort",
                "bpf_throw", "bpf_prog_0123456789abcdef_main", "bpf_test_run")
        + "\n\nAllocated by task 152:\n kasan_save_stack+0x20/0x40\n bpf_check+0x12/0x30\n\n"
        "Freed by task 9:\n kasan_save_stack+0x20/0x40\n kfree+0x12/0x30\n\n"
        "The buggy address belongs to the object at ffff888004a1b200\n" + "=" * 66,
        "BUG: KASAN: slab-use-after-free in bpf_throw",
        "bpf_throw < bpf_prog_main < bpf_test_run",
    ),
    # kernel/kcsan/report.c: print_report()
    "kcsan": (
        "=" * 66 + "\nBUG: KCSAN: data-race in array_map_lookup_elem / htab_map_update_elem\n\n"
        "write to 0xffff888004a1b2c0 of 8 bytes by task 152 on cpu 1:\n"
        " htab_map_update_elem+0x1/0x2\n bpf_map_update_value+0x1/0x2\n\n"
        "read to 0xffff888004a1b2c0 of 8 bytes by task 153 on cpu 0:\n"
        " array_map_lookup_elem+0x1/0x2\n\nvalue changed: 0x1 -> 0x2\n\n"
        "Reported by Kernel Concurrency Sanitizer on:\n" + HEAD + "=" * 66,
        "BUG: KCSAN: data-race in array_map_lookup_elem / htab_map_update_elem",
        "htab_map_update_elem < bpf_map_update_value < array_map_lookup_elem",
    ),
    # lib/ubsan.c: ubsan_prologue(), ubsan_epilogue()
    "ubsan": (
        "------------[ cut here ]------------\n"
        "UBSAN: shift-out-of-bounds in kernel/bpf/core.c:1744:63\n"
        "shift exponent 64 is too large for 64-bit type 'long long unsigned int'\n" + HEAD
        + trace("dump_stack_lvl", "ubsan_epilogue", "__ubsan_handle_shift_out_of_bounds",
                "___bpf_prog_run.cold", "__bpf_prog_run32", "bpf_test_run")
        + "\n---[ end trace ]---",
        "UBSAN: shift-out-of-bounds in kernel/bpf/core.c:1744:63",
        "___bpf_prog_run.cold < __bpf_prog_run32 < bpf_test_run",
    ),
    # kernel/locking/lockdep.c: print_circular_bug()
    "lockdep, circular": (
        "=" * 54 + "\nWARNING: possible circular locking dependency detected\n7.3.4 Not tainted\n"
        + "-" * 54 + "\npython3/152 is trying to acquire lock:\n"
        "ffff888004a1b2c0 (&htab->buckets[i].raw_lock){....}-{2:2}, at: htab_lock_bucket+0x1/0x2\n\n"
        "but task is already holding lock:\nffff888004a1b2d0 (&rq->__lock){-.-.}-{2:2}, at: x+0x1/0x2\n"
        "\nwhich lock already depends on the new lock.\n\n"
        "the existing dependency chain (in reverse order) is:\n\n-> #1 (&rq->__lock){-.-.}-{2:2}:\n"
        + "".join(f"       earlier_{n}+0x1/0x2\n" for n in range(40))
        + "\n *** DEADLOCK ***\n\nstack backtrace:\n" + HEAD
        + trace("dump_stack_lvl", "print_circular_bug.cold", "check_noncircular", "check_prev_add",
                "validate_chain", "__lock_acquire", "lock_acquire", "_raw_spin_lock_irqsave",
                "htab_lock_bucket", "htab_map_delete_elem"),
        "WARNING: possible circular locking dependency detected",
        "_raw_spin_lock_irqsave < htab_lock_bucket < htab_map_delete_elem",
    ),
    # kernel/locking/lockdep.c: print_usage_bug()
    "lockdep, inconsistent": (
        "=" * 32 + "\nWARNING: inconsistent lock state\n7.3.4 Not tainted\n" + "-" * 32
        + "\ninconsistent {SOFTIRQ-ON-W} -> {IN-SOFTIRQ-W} usage.\n"
        "python3/152 [HC0[0]:SC1[1]:HE1:SE0] takes:\n{SOFTIRQ-ON-W} state was registered at:\n"
        "  lock_acquire+0x1/0x2\n  earlier+0x1/0x2\n\nstack backtrace:\n" + HEAD
        + trace("dump_stack_lvl", "print_usage_bug.part.0", "mark_lock_irq", "mark_lock.part.0",
                "__lock_acquire", "lock_acquire", "_raw_spin_lock", "lru_add"),
        "WARNING: inconsistent lock state",
        "_raw_spin_lock < lru_add",
    ),
    # kernel/locking/lockdep.c: print_lock_invalid_wait_context()
    "lockdep, wait context": (
        "=" * 29 + "\n[ BUG: Invalid wait context ]\n7.3.4 Not tainted\n" + "-" * 29
        + "\npython3/152 is trying to lock:\nother info that might help us debug this:\n"
        "stack backtrace:\n" + HEAD + trace("dump_stack_lvl", "__lock_acquire", "lock_acquire", "f"),
        "[ BUG: Invalid wait context ]",
        "f",
    ),
    # kernel/workqueue.c: wq_watchdog_timer_fn()
    "workqueue lockup": (
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 35s!\n"
        "Showing busy workqueues and worker pools:\nworkqueue events: flags=0x0\n"
        "  pwq 2: cpus=0 node=0 flags=0x0 nice=0 active=1 refcnt=2\n"
        "    in-flight: 12:bpf_map_free_deferred",
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 35s!",
        "",
    ),
    # kernel/sched/core.c: __schedule_bug()
    "scheduling while atomic": (
        "BUG: scheduling while atomic: python3/152/0x00000002\nModules linked in: veth\n" + HEAD
        + trace("dump_stack_lvl", "__schedule_bug", "__schedule", "schedule", "synchronize_rcu"),
        "BUG: scheduling while atomic: python3/152/0x00000002",
        "__schedule < schedule < synchronize_rcu",
    ),
    # kernel/sched/core.c: __might_resched()
    "sleeping function": (
        "BUG: sleeping function called from invalid context at kernel/bpf/arraymap.c:1\n"
        "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 152, name: python3\n" + HEAD
        + trace("dump_stack_lvl", "__might_resched.cold", "bpf_prog_0123456789abcdef_main"),
        "BUG: sleeping function called from invalid context at kernel/bpf/arraymap.c:1",
        "bpf_prog_main",
    ),
    # kernel/hung_task.c: check_hung_task()
    "hung task": (
        "INFO: task kworker/0:1:12 blocked in I/O wait for more than 120 seconds.\n"
        "      Not tainted 7.3.4 #1\n"
        '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.\n'
        "task:kworker/0:1     state:D stack:0     pid:12\n"
        + trace("__schedule", "schedule", "bpf_map_free_deferred"),
        "INFO: task kworker/0:1:12 blocked in I/O wait for more than 120 seconds.",
        "__schedule < schedule < bpf_map_free_deferred",
    ),
    # kernel/watchdog.c: watchdog_hardlockup_check()
    "hard lockup": (
        "watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0\nModules linked in: veth\n" + HEAD
        + "RIP: 0010:queued_spin_lock_slowpath+0x1/0x2\n" + trace("_raw_spin_lock", "htab_lock_bucket"),
        "watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0",
        "queued_spin_lock_slowpath < _raw_spin_lock < htab_lock_bucket",
    ),
    # kernel/rcu/tree_stall.h: print_cpu_stall()
    "RCU, the processor itself": (
        "rcu: INFO: rcu_preempt self-detected stall on CPU\n"
        "rcu: \t0-....: (5249 ticks this GP) idle=1\nrcu: \t(t=5250 jiffies g=813 q=21 ncpus=1)\n"
        + HEAD + "RIP: 0010:bpf_loop+0x3c/0x90\n" + trace("bpf_prog_0123456789abcdef_main"),
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "bpf_loop < bpf_prog_main",
    ),
    # kernel/rcu/tasks.h: check_all_holdout_tasks()
    "RCU tasks": (
        "INFO: rcu_tasks detected stalls on tasks:\n" + trace("__schedule", "do_nothing"),
        "INFO: rcu_tasks detected stalls on tasks:",
        "__schedule < do_nothing",
    ),
    # mm/slub.c: slab_bug()
    "slub": (
        "=" * 77 + "\nBUG kmalloc-64 (Not tainted): Poison overwritten\n" + "-" * 77 + "\n"
        "0xffff888004a1b2c0-0xffff888004a1b2c7 @offset=704. First byte 0x6a instead of 0x6b\n",
        "BUG kmalloc-64 (Not tainted): Poison overwritten",
        "",
    ),
    # lib/debugobjects.c: debug_print_object()
    "debug objects": (
        "------------[ cut here ]------------\n"
        "ODEBUG: free active (active state 0) object: ffff888004a1b2c0 object type: timer_list\n"
        "WARNING: lib/debugobjects.c:615 at debug_print_object+0x1/0x2, CPU#0: python3/152\n"
        + trace("debug_print_object", "kfree") + "\n---[ end trace 0000000000000000 ]---",
        "ODEBUG: free active (active state 0) object",
        "debug_print_object < kfree",
    ),
    # mm/kfence/report.c: kfence_report_error()
    "kfence": (
        "=" * 66 + "\nBUG: KFENCE: out-of-bounds read in bpf_check+0x1/0x2\n\n"
        "Out-of-bounds read at 0x00000000deadbeef (1B right of kfence-#72):\n"
        " bpf_check+0x1/0x2\n bpf_prog_load+0x1/0x2\n\n" + "=" * 66,
        "BUG: KFENCE: out-of-bounds read in bpf_check",
        "bpf_check < bpf_prog_load",
    ),
    # kernel/panic.c: vpanic()
    "panic": (
        "Kernel panic - not syncing: sysrq triggered crash\n" + HEAD
        + trace("dump_stack_lvl", "vpanic", "panic", "sysrq_handle_crash", "__handle_sysrq"),
        "Kernel panic - not syncing: sysrq triggered crash",
        "sysrq_handle_crash < __handle_sysrq",
    ),
    # kernel/locking/lockdep.c: assign_lock_key()
    "lockdep, no key": (
        "INFO: trying to register non-static key.\nThe code is fine but needs lockdep annotation\n"
        + HEAD + trace("dump_stack_lvl", "lock_acquire", "f"),
        "INFO: trying to register non-static key.",
        "f",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "[    4.446547] ", "[    4.446547][  T152] "])
def test_a_complaint_is_one_splat(kind, prefix):
    report, title, functions = KINDS[kind]
    log = "\n".join(prefix + line for line in ["quiet", *report.split("\n"), "quiet again"])
    (splat,) = find_splats(log, load_rules(), dt.date(2026, 11, 23))
    assert splat.startswith(title)
    found = re.search(r"^  in (.*)", splat, re.MULTILINE)
    assert (found[1] if found else "") == functions


def test_complaints_in_a_row_are_told_apart():
    """What a lockdep report leaves open does not swallow the oops behind it."""
    log = "\n".join(KINDS[kind][0] for kind in ("lockdep, circular", "kasan", "panic"))
    titles = [splat.split("\n")[0] for splat in find_splats(log, load_rules(), dt.date.min)]
    assert len(titles) == 2  # a panic belongs to what was before it
