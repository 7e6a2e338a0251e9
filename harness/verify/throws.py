# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What must hold where a program ends: at a throw, at an exit, at a call that may throw.

Owns what may be held there (per profile: harness.sim.semantics), the cookie, and which values a
program type may return. Source: process_bpf_exit_full(), check_resource_leak(),
check_return_code() in kernel/bpf/verifier.c of 6.12, 6.18 and 7.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import helpermem
from harness.verify import registers as r
from harness.verify.memory import readable
from harness.verify.prediction import Category
from harness.verify.registers import Reg, type_name
from harness.verify.rules import rules_of
from harness.verify.visited import loop_chain

if TYPE_CHECKING:
    from harness.verify.walk import Walk

_S64_MIN, _S64_MAX = -(1 << 63), (1 << 63) - 1
_EFAULT: Final = 14
_ERRNOS: Final = (-4095, 0)
_LATE: Final = (6, 13)
# program type -> range of the value, where every attach type has the same
_RANGES: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(
        ("cgroup_sock", "sock_ops", "cgroup_device", "cgroup_sysctl", "cgroup_sockopt", "iter",
         "sk_lookup", "netfilter"), (0, 1)),
    **dict.fromkeys(("fentry", "fexit"), (0, 0)),
}  # fmt: skip
_ONE_ONLY: Final = (
    "recvmsg4", "recvmsg6", "recvmsg_unix", "getpeername4", "getpeername6", "getpeername_unix",
    "getsockname4", "getsockname6", "getsockname_unix",
)  # fmt: skip
# hooks of security modules that return an error number, and those that return nothing
_INT_HOOKS: Final = frozenset({
    "file_open", "bprm_check_security", "bprm_creds_for_exec", "file_permission", "file_ioctl",
    "mmap_file", "file_mprotect", "file_lock", "file_fcntl", "file_receive", "task_alloc",
    "task_kill", "task_setnice", "inode_create", "inode_link", "inode_unlink", "inode_mkdir",
    "inode_rmdir", "inode_rename", "inode_setattr", "inode_getattr", "inode_permission",
    "path_mkdir", "path_unlink", "path_rename", "socket_create", "socket_bind", "socket_connect",
    "socket_listen", "socket_accept", "socket_sendmsg", "socket_recvmsg", "socket_post_create",
    "sb_mount", "sb_umount", "kernel_read_file", "kernel_load_data", "ptrace_access_check",
    "capable", "bpf", "bpf_map", "bpf_prog", "unix_stream_connect", "cred_prepare", "locked_down",
})  # fmt: skip
_VOID_HOOKS: Final = frozenset({
    "bprm_committing_creds", "bprm_committed_creds", "file_free_security", "inode_free_security",
    "task_free", "cred_free", "sk_free_security", "sk_clone_security", "inet_conn_established",
    "sock_graft", "d_instantiate", "inode_post_setxattr", "bpf_map_free", "bpf_prog_free",
})  # fmt: skip


def throw(walk: Walk) -> None:
    """A call of bpf_throw(); the path ends behind it."""
    profile = walk.subject.profile
    if walk.kind not in profile.throw_types:
        walk.reject(
            Category.POLICY,
            "calling kernel function bpf_throw is not allowed",
            errno=13,
            why=f"programs of type {walk.kind or walk.program.section} may not throw here",
            fix="return the value instead",
        )
    helpermem.check_number(walk, 1)
    walk.explored.threw = True
    if walk.program.exception_callback is None:
        check_value(walk, 1, "R1")
    if len(walk.state.frames) > 1 and profile.static_throw_leaks:
        note_leak(walk, references=False)
    check_held(walk, throws=True)
    end_in_loop(walk)


def note_leak(walk: Walk, *, references: bool) -> None:
    """Keep what stays held for good here, because this kernel does not look."""
    state = walk.state
    held = ["a read-side critical section of RCU"] if state.rcu else []
    held += ["preemption off"] if state.preempt else []
    held += ["interrupts off"] if state.held("irq") else []
    held += ["a reference"] if references and any(ref.kind == "ptr" for ref in state.refs) else []
    if held:
        what = ", ".join(held)
        walk.explored.leaks.add(f"a throw (instruction {walk.pc}) leaves {what} behind for good")


def end_in_loop(walk: Walk) -> None:
    """maybe_exit_scc(): a path that ends by a throw inside a loop (a bug of 6.17 and later)."""
    if not rules_of(walk.subject.profile).loses_throws_in_loops:
        return
    walk.state.pc = walk.pc
    chain = loop_chain(walk, walk.state)
    if chain is not None and chain not in walk.loop_visits:
        walk.reject(
            Category.PROGRAM_STRUCTURE,
            "scc exit: no visit info for call chain",
            errno=_EFAULT,
            why="the throw stands in a loop, and this kernel loses count of such loops (a bug)",
            fix="put the throw behind the loop: break out and throw there",
        )


def check_held(walk: Walk, *, throws: bool, called: bool = False) -> None:
    """What is held at a throw (or a call that may throw), or at an exit. Rejects."""
    state, profile = walk.state, walk.subject.profile
    inner = len(state.frames) > 1
    regions = not inner or (throws and not profile.static_throw_leaks)
    if walk.release < _LATE:
        if regions:
            _check_regions_6_12(walk)
        _check_references(walk, throws=throws)
        return
    prefix = "BPF_EXIT instruction in main prog"
    if throws and (not profile.static_throw_leaks or called):
        prefix = "bpf_throw"
    if regions and state.locked:
        _region(
            walk, f"{prefix} cannot be used inside bpf_spin_lock-ed region", f"{state.lock} is held"
        )
    _check_references(walk, throws=throws, prefix=prefix)
    if not regions:
        return
    if state.held("irq"):
        _region(walk, f"{prefix} cannot be used inside bpf_local_irq_save-ed region",
                "interrupts are off")  # fmt: skip
    if state.rcu:
        _region(walk, f"{prefix} cannot be used inside bpf_rcu_read_lock-ed region",
                "a read-side critical section of RCU is open")  # fmt: skip
    if state.preempt:
        _region(walk, f"{prefix} cannot be used inside bpf_preempt_disable-ed region",
                "preemption is off")  # fmt: skip


def _check_regions_6_12(walk: Walk) -> None:
    state = walk.state
    if state.locked:
        _region(walk, "bpf_spin_unlock is missing", f"{state.lock} is held")
    if state.rcu:
        _region(
            walk, "bpf_rcu_read_unlock is missing", "a read-side critical section of RCU is open"
        )
    if state.preempt:
        verb = " is" if state.preempt == 1 else "(s) are"
        _region(walk, f"{state.preempt} bpf_preempt_enable{verb} missing", "preemption is off")


def _region(walk: Walk, message: str, why: str) -> None:
    walk.reject(
        Category.EXECUTION_CONTEXT,
        message,
        why=f"the program would end here while {why}",
        fix="end it before, on every path",
        certain=True,
    )


def _check_references(walk: Walk, *, throws: bool, prefix: str = "") -> None:
    state = walk.state
    inner = len(state.frames) > 1
    callback = state.frames[-1].callback is not None and inner
    early = walk.release < _LATE
    if not throws and inner and not (early and callback):
        return
    for ref in state.refs:
        if ref.kind != "ptr":
            continue
        if not throws and early and callback and ref.frame != len(state.frames) - 1:
            continue
        behind = rf"{{{{[\s\S]*}}}}{prefix} would lead to reference leak" if prefix else ""
        walk.reject(
            Category.RESOURCE_LIFETIME,
            f"Unreleased reference id={{{{[0-9]+}}}} alloc_insn={ref.pc}{behind}",
            why=f"the program would end here with the reference that instruction {ref.pc} acquired",
            fix="release it on every path to here",
            certain=True,
        )


# ---- values -------------------------------------------------------------------------------------


def value_range(walk: Walk) -> tuple[int, int] | None:
    """Values that the program may return; None: any."""
    kind, target = walk.kind, walk.target
    if kind == "cgroup_sock_addr":
        if target in _ONE_ONLY:
            return (1, 1)
        return (0, 3) if target in ("bind4", "bind6") else (0, 1)
    if kind == "cgroup_skb":
        return (0, 3) if target == "egress" else (0, 1)
    if kind == "lsm":
        return _of_hook(walk, target)
    if kind == "struct_ops":
        walk.unknown("what a struct_ops program may return: the member's type is the kernel's")
    if kind == "kprobe" and ".session" in walk.program.section:
        return (0, 1)
    return _RANGES.get(kind)


def _of_hook(walk: Walk, hook: str) -> tuple[int, int] | None:
    if hook in _VOID_HOOKS:
        return None
    if hook not in _INT_HOOKS:
        walk.unknown(f"which values the hook {hook} takes: its type is the kernel's")
    return _ERRNOS


def check_value(walk: Walk, number: int, name: str) -> None:
    """check_return_code() on R0 of an exit, or on the cookie where no callback stands between."""
    first = walk.state.frames[0]
    callback = walk.program.exception_callback
    early = walk.release < (7, 0)
    if first.callback is not None:
        _check_late(walk, number, first.callback.low, first.callback.high)
        return
    of_global = bool(first.function) and first.function != callback
    if of_global and (early or number == 0):
        if number and callback is None:
            _note_range(walk)
        _check_global(walk, number)
        return
    if walk.kind == "lsm" and walk.target in _VOID_HOOKS:
        return
    reg = readable(walk, number)
    allowed = value_range(walk)
    if allowed is None:
        return
    _enforce(walk, reg, number, name, allowed, "At program exit", low_half=walk.kind == "lsm")


def _note_range(walk: Walk) -> None:
    """Keep a cookie that the program type may not return: nobody looks in a global function."""
    cookie, allowed = walk.regs[1].num, value_range(walk)
    void = walk.kind == "lsm" and walk.target in _VOID_HOOKS
    if void or allowed is None or cookie is None:
        return
    span = cookie.narrow if walk.kind == "lsm" else cookie.wide
    if not (allowed[0] <= span.smin and span.smax <= allowed[1]):
        place = f"in a global function (instruction {walk.pc})"
        walk.explored.leaks.add(f"a cookie thrown {place} may be outside of {allowed}")


def _check_late(walk: Walk, number: int, low: int, high: int) -> None:
    reg = readable(walk, number)
    _enforce(walk, reg, number, f"R{number}", (low, high), "At async callback return")


def _check_global(walk: Walk, number: int) -> None:
    """Global functions return any number, and pointers into arenas in 7.3."""
    first = walk.state.frames[0]
    if walk.returns_void(first.function):
        return
    reg = readable(walk, number)
    if reg.type == r.SCALAR or (reg.type == r.ARENA and walk.release >= (7, 0)):
        return
    walk.reject(
        Category.REGISTER_TYPE,
        f"At subprogram exit the register R{number} is not a scalar value ({type_name(reg)})",
    )


def _enforce(  # the words of the message
    walk: Walk, reg: Reg, number: int, name: str, allowed: tuple[int, int], where: str,
    *, low_half: bool = False,
) -> None:  # fmt: skip
    low, high = allowed
    if reg.type != r.SCALAR or reg.num is None:
        walk.reject(
            Category.REGISTER_TYPE,
            f"{where} the register R{number} is not a known value ({type_name(reg)})",
        )
    value = reg.num
    span = value.narrow if low_half else value.wide
    if low <= span.smin and span.smax <= high:
        return
    words = f" smin={value.smin}" if value.smin > _S64_MIN else ""
    words += f" smax={value.smax}" if value.smax < _S64_MAX else ""
    words = words or " unknown scalar value"
    what = "the cookie, which the default callback returns," if number else "the value"
    walk.reject(
        Category.CALL_TYPE,
        f"{where} the register {name} has{words} should have been in [{low}, {high}]",
        why=f"{what} of a program of this type must be in {low}..{high}",
        fix=f"keep it in {low}..{high}",
    )


def check_value_of_packet_load(walk: Walk) -> None:
    """LD_ABS may end the program with the value 0 (since 6.13 it counts as an exit)."""
    allowed = value_range(walk)
    if allowed is not None and not allowed[0] <= 0 <= allowed[1]:
        walk.unknown("BPF_LD_[ABS|IND] in a program that may not return 0")


def check_tail_call(walk: Walk) -> None:
    """A tail call from a function: what it may return to the caller."""
    if walk.state.frames[-1].callback is not None:
        walk.unknown("a tail call in a callback")
