# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that attach to a function of a BPF program (freplace, fentry, fexit) or of the kernel.

Source: check_attach_btf_id() and bpf_check_attach_target() in kernel/bpf/verifier.c. Whether the
kernel has the function that a section names is libbpf's question, and needs the kernel's types.
"""

import re
from dataclasses import dataclass

from harness.bpf.btf import Btf, Kind, Type
from harness.bpf.elf import Function, Object
from harness.bpf.environment import Environment
from harness.bpf.link import link
from harness.bpf.sections import attach_target, program_type
from harness.errors import ObjectError
from harness.verify.prediction import Category, NotModelled, Rejection, Subject

_TO_FUNCTIONS = frozenset({"freplace", "fentry", "fexit", "fmod_ret"})
_TO_KERNEL = frozenset({"fentry", "fexit", "fmod_ret"})
_MOST_DEPTH = 8
# what libbpf looks for in a kernel's types: kind, and what stands before the section's name
_NAMES = {
    "fentry": (Kind.FUNC, ""),
    "fexit": (Kind.FUNC, ""),
    "fmod_ret": (Kind.FUNC, ""),
    "tp_btf": (Kind.TYPEDEF, "btf_trace_"),
    "iter": (Kind.FUNC, "bpf_iter_"),
    "lsm": (Kind.FUNC, "bpf_lsm_"),
}
# in every kernel that has BTF: net/bpf/test_run.c, and what has a name that nobody changes
_EVERYWHERE = re.compile(
    r"bpf_fentry_test[1-8]|bpf_modify_return_test|btf_trace_sched_switch|bpf_lsm_file_open"
)
# check_attach_modify_return(): its list of functions for error injection is not in the types
_MAY_RETURN = re.compile(r"security_\w+|bpf_modify_return_test|bpf_fentry_test1")
# of sleepable_lsm_hooks in kernel/bpf/bpf_lsm.c, which grows
_SLEEPABLE_HOOKS = frozenset({
    "bpf", "bpf_map", "bpf_prog", "bprm_check_security", "bprm_committed_creds",
    "bprm_committing_creds", "bprm_creds_for_exec", "cred_prepare", "file_ioctl", "file_lock",
    "file_open", "file_receive", "inode_create", "inode_getattr", "inode_rename", "inode_rmdir",
    "inode_setattr", "inode_unlink", "kernel_read_file", "path_mkdir", "path_unlink", "sb_mount",
    "sb_umount", "socket_accept", "socket_bind", "socket_connect", "socket_create",
    "socket_listen", "socket_post_create", "socket_recvmsg", "socket_sendmsg", "task_alloc",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Onto:
    """What a program attaches to, as far as its section leaves that open."""

    # the program that holds the function; "": whichever of the object does
    program: str = ""
    # "": what the section names
    function: str = ""
    # the object that holds the program; None: the attached program's own
    obj: Object | None = None


OPEN = Onto()


def check(subject: Subject, environment: Environment, onto: Onto = OPEN) -> None:
    """What is said of the target. Raises Rejection, NotModelled."""
    section = subject.program.section
    kind, target = program_type(section), onto.function or attach_target(section)
    head = section.removeprefix("?").partition("/")[0]
    if head.endswith(".s") and kind in {*_TO_KERNEL, "tp_btf"}:
        raise NotModelled(f"which functions {head} programs may sleep in")
    if head == "lsm.s" and target not in _SLEEPABLE_HOOKS:
        raise NotModelled(f"whether programs may sleep in the hook {target}")
    if kind in _NAMES and kind not in _TO_FUNCTIONS and target:
        _require_in_kernel(environment, kind, target)
    if kind not in _TO_FUNCTIONS:
        return
    if not target:
        raise NotModelled(f"section {section!r} names nothing to attach to")
    obj = onto.obj or subject.obj
    found = next((f for f in (*obj.functions, *obj.programs) if f.name == target), None)
    if found is not None:
        _check_callback(subject, obj, kind, found, onto.program)
    if kind == "freplace":
        _check_replaced(subject, obj, target, found)
    elif found is not None and kind == "fmod_ret":
        raise Rejection(
            Category.POLICY,
            "can't modify return codes of BPF programs",
            why=f"{target}() is a function of a BPF program, and fmod_ret is for the kernel's own",
            fix="replace the function by freplace, or watch it by fexit",
        )
    elif found is None:
        _require_in_kernel(environment, kind, target)
        if kind == "fmod_ret" and not _MAY_RETURN.fullmatch(target):
            raise NotModelled(f"whether the kernel lets others change what {target}() returns")


def named_in_kernel(section: str) -> bool:
    """Whether libbpf looks up in the kernel's types what a section names."""
    return program_type(section) in _NAMES and bool(attach_target(section))


def _require_in_kernel(environment: Environment, kind: str, target: str) -> None:
    """NotModelled where the kernel may lack what a program is for."""
    sort, before = _NAMES[kind]
    name = before + target
    if environment.btf is None:
        if not _EVERYWHERE.fullmatch(name):
            raise NotModelled(f"whether there is a {name}: no types of a kernel are given")
        return
    found = environment.btf.find(sort, name)
    if found is None:
        raise NotModelled(f"{name} is not in vmlinux: a module may have it")
    if kind in _TO_KERNEL and _odd_arguments(environment.btf, found):
        raise NotModelled(f"whether a program may look at the arguments of {name}()")


def _odd_arguments(btf: Btf, function: Type) -> bool:
    """Whether btf_distill_func_proto() may refuse: any number of arguments, or structs by value."""
    kinds = [
        btf.resolve(member.type_id).kind if member.type_id else None
        for member in btf.type(function.type_id).members
    ]
    return any(kind in (None, Kind.STRUCT, Kind.UNION) for kind in kinds)


def _check_callback(subject: Subject, obj: Object, kind: str, target: Function, of: str) -> None:
    """An exception callback can be neither replaced nor traced."""
    programs = [p for p in obj.programs if of in ("", p.name)]
    holders = [p for p in programs if p.exception_callbacks == (target.name,)]
    if not holders:
        return
    if any(_contains(obj, p, target) for p in programs if p not in holders):
        raise NotModelled(f"in which program {target.name}() is meant: in some it is the callback")
    name = "Extension" if kind == "freplace" else subject.profile.tracing_name
    raise Rejection(
        Category.POLICY,
        f"{name} programs cannot attach to exception callback",
        why=f"{target.name}() is the exception callback of {holders[0].name}(): it starts in the "
        "middle of another frame, which neither a trampoline nor a replacement can",
        fix=f"attach to a function that {target.name}() calls",
    )


def _contains(obj: Object, program: Function, function: Function) -> bool:
    try:
        return any(f.name == function.name for f in link(obj, program.name).functions)
    except ObjectError:
        return False


def _check_replaced(subject: Subject, obj: Object, name: str, target: Function | None) -> None:
    if target is None:
        raise NotModelled(f"the replaced function {name}() is not in this object")
    if target.linkage != "global":
        raise Rejection(
            Category.POLICY,
            f"{name}() is not a global function",
            why=f"{name}() is static: callers of it were verified together with what it does",
            fix="drop `static`",
        )
    own = _record(subject.obj, subject.obj.program(subject.program.name)).type_id
    if not _same((subject.obj, own), (obj, _record(obj, target).type_id)):
        raise NotModelled(f"whether the types of {name}() and of what replaces it fit")


def _record(obj: Object, function: Function) -> Type:
    return obj.btf.type(obj.ext.functions.get(function.section, {}).get(function.offset, 0))


def _same(one: tuple[Object, int], two: tuple[Object, int], depth: int = 0) -> bool:
    """Whether two types are spelled alike, which always fits; others may fit too."""
    if one == two:
        return True
    if depth > _MOST_DEPTH:
        return False
    (mine, _), (theirs, _) = one, two
    first, second = mine.btf.resolve(one[1]), theirs.btf.resolve(two[1])
    same = (first.kind, first.name, first.size_bytes, len(first.members)) == (
        second.kind, second.name, second.size_bytes, len(second.members))  # fmt: skip
    if not same or first.kind in (Kind.STRUCT, Kind.UNION):
        return same
    pairs = [(first.type_id, second.type_id)] if first.type_id or second.type_id else []
    if first.kind is Kind.FUNC_PROTO:
        pairs += [
            (a.type_id, b.type_id) for a, b in zip(first.members, second.members, strict=True)
        ]
    return all(_same((mine, a), (theirs, b), depth + 1) for a, b in pairs)
