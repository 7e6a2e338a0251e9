# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Calls of helpers, by their prototypes (harness.verify.prototypes).

Source: check_helper_call(), push_callback_call(), check_map_func_compatibility() in
kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.bpf.helper_names import NAMES
from harness.bpf.mapdef import MapType
from harness.verify import callbacks, dynptrs, helperargs, prototypes, throws
from harness.verify import registers as r
from harness.verify.frames import Ref
from harness.verify.globals import forget_packets
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar, type_name

if TYPE_CHECKING:
    from harness.bpf.isa import Insn
    from harness.verify.helperargs import Passed
    from harness.verify.prototypes import Prototype
    from harness.verify.scalar import Scalar
    from harness.verify.walk import Walk

_GPL: Final = frozenset({
    "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL",
})  # fmt: skip
# helpers that give a string's length or a negative error number
_LENGTHS: Final = frozenset({
    "bpf_get_stack", "bpf_get_task_stack", "bpf_probe_read_str", "bpf_probe_read_kernel_str",
    "bpf_probe_read_user_str",
})  # fmt: skip
_MAX_ERRNO: Final = 4095
# CONFIG_NR_CPUS of x86-64 at most
_MAX_CPUS: Final = 8192
_SOCKETS: Final = {
    "socket": r.SOCKET, "sock_common": r.SOCK_COMMON, "tcp_sock": r.TCP_SOCK,
}  # fmt: skip
# a subprogram that tail-calls returns anything: Linux kernel commit e3245f899007 (v6.19), which is
# in 6.18.15 too and not in 6.12.107
_TAIL_CALLS_RETURN: Final = (6, 18)
# helpers with rules of their own that are not here
_NOT_HERE: Final = frozenset({
    "bpf_snprintf", "bpf_set_retval",
    "bpf_per_cpu_ptr", "bpf_this_cpu_ptr", "bpf_get_func_arg", "bpf_get_func_ret", "bpf_d_path",
})  # fmt: skip


def call(walk: Walk, insn: Insn) -> int:
    """One call; gives the next instruction."""
    number = insn.imm
    name = NAMES[number] if 0 < number < len(NAMES) else ""
    if not name:
        walk.reject(Category.CALL_TYPE, f"invalid func unknown#{number}")
    proto = prototypes.helper(number, walk.kind, walk.subject.profile.name)
    if proto is None:
        walk.reject(
            Category.POLICY,
            f"program of this type cannot use helper {name}#{number}",
            why=f"programs of type {walk.kind} have no {name}()",
        )
    if proto.gpl and walk.subject.obj.license not in _GPL:
        words = "cannot call GPL-restricted function from non-GPL compatible program"
        walk.reject(Category.POLICY, words)
    if name in _NOT_HERE:
        walk.unknown(f"helper {name}")
    _check_context(walk, name, number, proto)
    if walk.pc in walk.flow.calls_back:
        # the calls that a callback makes see the arguments as they are now
        walk.state.frames[-1].regs[1:6] = walk.regs[1:6]
    passed = helperargs.check(walk, proto)
    if passed.released:
        release(walk, passed.released)
    if passed.dynptr:
        _dynptr(walk, name, proto, passed)
    _special(walk, name, passed)
    result = _result(walk, name, proto, passed)
    walk.regs[0:6] = [result] + [r.UNREADABLE] * 5
    _check_map(walk, name, number, passed)
    if name == "bpf_tail_call" and walk.release >= _TAIL_CALLS_RETURN:
        return _tail_called(walk)
    if name in prototypes.CHANGES_PACKET:
        forget_packets(walk)
    return walk.pc + 1


def _tail_called(walk: Walk) -> int:
    """The call that fails goes on, later; the one that succeeds returns anything to the caller."""
    if len(walk.state.frames) == 1:
        return walk.pc + 1
    from harness.verify.calls import return_to_caller  # noqa: PLC0415  # a circle otherwise

    walk.push(walk.state.copy(), walk.pc + 1)
    forget_packets(walk)
    walk.regs[0] = scalar(walk.domain.unknown)
    return return_to_caller(walk)


def _check_context(walk: Walk, name: str, number: int, proto: Prototype) -> None:
    """Helpers that sleep, in programs and places that may not."""
    if not proto.sleeps:
        return
    state = walk.state
    words = ""
    first = state.frames[0].callback
    late = first is not None and first.late
    if late and walk.sleepable and walk.release < (7, 0):
        walk.unknown(f"{name}() in a function of a timer, in a program that sleeps")
    if not walk.sleepable or late:
        words = "helper call might sleep in a non-sleepable prog"
        if walk.release >= (7, 0):
            words = f"sleepable helper {name}#{number} in {_where(walk)}"
    elif state.rcu:
        words = f"sleepable helper {name}#{number} in rcu_read_lock region"
    elif state.preempt:
        words = f"sleepable helper {name}#{number} in non-preemptible region"
    elif state.held("irq"):
        words = f"sleepable helper {name}#{number} in IRQ-disabled region"
    if words:
        walk.reject(Category.EXECUTION_CONTEXT, words, certain=True)


def _dynptr(walk: Walk, name: str, proto: Prototype, passed: Passed) -> None:
    """A dynptr is made or given back; all other helpers leave it as it is."""
    reg, arg = walk.regs[passed.dynptr], proto.args[passed.dynptr - 1]
    if reg.type != r.STACK:
        return
    if arg.uninit:
        if name == "bpf_dynptr_from_mem" and walk.regs[1].type != r.MAP_VALUE:
            words = f"Unsupported reg type {type_name(walk.regs[1])} for bpf_dynptr_from_mem data"
            walk.reject(Category.CALL_TYPE, words, errno=13)
        ref = acquire(walk) if arg.what in dynptrs.REFERENCED else 0
        dynptrs.make(walk, reg, arg.what, ref)
    elif "release" in arg.flags:
        release_id(walk, dynptrs.end(walk, reg))
    elif name == "bpf_dynptr_data":
        walk.unknown("the memory of a dynptr")


def _where(walk: Walk) -> str:
    """non_sleepable_context_description()."""
    state = walk.state
    if state.rcu:
        return "rcu_read_lock region"
    if state.preempt:
        return "non-preemptible region"
    if state.held("irq"):
        return "IRQ-disabled region"
    return "lock region" if state.locked else "non-sleepable prog"


def release(walk: Walk, number: int) -> None:
    """The reference of R`number` ends."""
    release_id(walk, walk.regs[number].ref)


def release_id(walk: Walk, ref: int) -> None:
    """release_reference(): pointers that had the reference are numbers."""
    state = walk.state
    if not ref:
        return  # NULL
    if not any(each.id == ref and each.kind == "ptr" for each in state.refs):
        walk.reject(
            Category.RESOURCE_LIFETIME,
            "reference has not been acquired before",
            certain=True,
        )
    if walk.release < (6, 13):
        depth = len(state.frames) - 1
        mine = next(each for each in state.refs if each.id == ref)
        if state.frames[-1].callback is not None and mine.frame != depth:
            walk.reject(
                Category.RESOURCE_LIFETIME,
                "reference has not been acquired before",
                certain=True,
            )
    state.refs = tuple(each for each in state.refs if each.id != ref)
    for place, key, reg in list(state.places()):
        if reg.ref == ref:
            state.replace(place, key, scalar(walk.domain.unknown))


def acquire(walk: Walk) -> int:
    """A new reference; gives its number."""
    state = walk.state
    number = walk.new_id()
    depth = len(state.frames) - 1
    frame = depth if depth and state.frames[-1].callback is not None else 0
    state.refs = (*state.refs, Ref("ptr", number, walk.pc, None, frame))
    return number


# ---- helpers with rules of their own ------------------------------------------------------------


def _special(walk: Walk, name: str, passed: Passed) -> None:
    if name == "bpf_tail_call":
        _tail_call(walk, passed)
    elif name in callbacks.HELPERS:
        callbacks.HELPERS[name](walk, passed)
    elif name == "bpf_get_local_storage" and walk.regs[2].const != 0:
        walk.reject(Category.CALL_TYPE, "get_local_storage() doesn't support non-zero flags")


# of kernels that have check_resource_leak()
_NO_PROGRAMS = ("kernel subsystem misconfigured verifier", "expected prog array map for tail call")
_WOULD_LEAK: Final = "{{[\\s\\S]*}}tail_call would lead to reference leak"


def _tail_call(walk: Walk, passed: Passed) -> None:
    view = passed.map
    state = walk.state
    if view is not None and view.type != MapType.PROG_ARRAY:
        walk.reject(Category.CALL_TYPE, _NO_PROGRAMS[walk.release >= (6, 13)])
    if state.held("ptr"):
        leaked = state.held("ptr")[0]
        walk.reject(
            Category.RESOURCE_LIFETIME,
            f"Unreleased reference id={{{{[0-9]+}}}} alloc_insn={leaked.pc}"
            + (_WOULD_LEAK if walk.release >= (6, 13) else ""),
            why="a tail call does not come back: nobody would release the reference",
            certain=True,
        )
    where = {
        "bpf_local_irq_save-ed": bool(state.held("irq")),
        "bpf_rcu_read_lock-ed": bool(state.rcu),
        "bpf_preempt_disable-ed": bool(state.preempt),
    }
    for region, held in where.items():
        if held:
            words = f"tail_call cannot be used inside {region} region"
            walk.reject(Category.EXECUTION_CONTEXT, words, certain=True)
    if len(state.frames) > 1 and walk.release >= _TAIL_CALLS_RETURN:
        throws.check_tail_call(walk)


# ---- results ------------------------------------------------------------------------------------


def _result(walk: Walk, name: str, proto: Prototype, passed: Passed) -> Reg:
    returns = proto.returns
    flags = r.MAYBE_NULL if returns.null else 0
    if returns.kind == "void":
        return r.UNREADABLE
    if returns.kind == "int":
        return scalar(_number(walk, name, passed))
    if returns.kind == "value":
        return _value(walk, name, passed, flags)
    if returns.kind == "ringbuf":
        ref = acquire(walk)
        return Reg(r.MEM, size=passed.size, flags=flags | r.RINGBUF, id=ref, ref=ref)
    if returns.kind in _SOCKETS:
        kind = _SOCKETS[returns.kind]
        if name in prototypes.CASTS:  # the same object as the argument
            return Reg(kind, flags=flags, id=walk.new_id(), ref=passed.ref)
        ref = acquire(walk) if name in prototypes.ACQUIRES else 0
        return Reg(kind, flags=flags, id=ref or walk.new_id(), ref=ref)
    if returns.kind == "btf" and returns.what == callbacks.TASK:
        return Reg(r.BTF_ID, what=("kernel", f"btf:{callbacks.TASK}"), flags=r.TRUSTED)
    if name == "bpf_kptr_xchg":
        ref = acquire(walk)
        return Reg(r.BTF_ID, what=passed.kept, flags=r.ALLOC | r.MAYBE_NULL, id=ref, ref=ref)
    return walk.unknown(f"the result of {name}")


def _value(walk: Walk, name: str, passed: Passed, flags: int) -> Reg:
    """What a lookup gives."""
    view = passed.map
    assert view is not None
    if view.type in (MapType.SOCKMAP, MapType.SOCKHASH, MapType.XSKMAP):
        walk.unknown(f"a value of a {MapType(view.type).name.lower()}")
    if name == "bpf_map_lookup_elem" and passed.key is not None and passed.key < view.max_entries:
        if view.varies and walk.release < (7, 0):
            walk.unknown("a constant index into an inner map of varying size")
        flags = flags if view.varies else 0
    locked = any(kind == "bpf_spin_lock" for kind, _, _ in view.special)
    number = walk.new_id() if flags or locked else 0
    if view.inner is not None and (not flags or walk.release >= (7, 0)):
        return Reg(r.MAP_PTR, what=view.inner, flags=flags, id=number)
    return Reg(r.MAP_VALUE, what=view, flags=flags, id=number)


def _number(walk: Walk, name: str, passed: Passed) -> Scalar:
    domain = walk.domain
    if name in _LENGTHS:
        return domain.between(-_MAX_ERRNO, passed.largest)
    if name == "bpf_get_smp_processor_id":
        # the machine at hand may have fewer, and accept more
        walk.state.widened = True
        return domain.between(0, _MAX_CPUS - 1)
    if name == "bpf_get_retval":
        return domain.between(-_MAX_ERRNO, 0)
    return domain.unknown


def _check_map(walk: Walk, name: str, number: int, passed: Passed) -> None:
    view = passed.map
    if view is None or prototypes.map_allowed(name, view.type):
        return
    if view.type in (MapType.SOCKMAP, MapType.SOCKHASH):
        walk.unknown(f"{name} of a {MapType(view.type).name.lower()}")
    walk.reject(
        Category.CALL_TYPE,
        f"cannot pass map_type {view.type} into func {name}#{number}",
        why=f"{name}() does not take maps of type {MapType(view.type).name.lower()}",
    )
