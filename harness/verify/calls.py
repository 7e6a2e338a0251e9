# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Calls of the program's own functions, returns, addresses of maps and functions.

Static functions are explored where they are called, global ones once by themselves
(harness.verify.globals). Helpers and kernel functions: harness.verify.helpercalls, kernelcalls.
Source: check_func_call(), prepare_func_exit(), push_callback_call(), check_ld_imm() in
kernel/bpf/verifier.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from harness.bpf import isa
from harness.bpf.mapdef import MapType
from harness.bpf.program import Ref, RefKind
from harness.verify import globals as global_functions
from harness.verify import helpercalls, kernelcalls, throws
from harness.verify import registers as r
from harness.verify.frames import Callback, Frame, State
from harness.verify.loading import absent
from harness.verify.memory import readable, writable
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar, type_name

if TYPE_CHECKING:
    from harness.bpf.isa import Insn
    from harness.verify.walk import Walk

ENDS: Final = -1
_CORE: Final = re.compile(r"CO-RE relocation (\w+) of ([^:]*): ")
_LACKING: Final = re.compile(r"kernel function (\S+) is not in .*")
# libbpf's names of the kinds
_CORE_WORDS: Final = {
    "field_byte_offset": "byte_off", "field_byte_size": "byte_sz", "field_exists": "field_exists",
    "field_signed": "signed", "field_lshift_u64": "lshift_u64", "field_rshift_u64": "rshift_u64",
    "type_exists": "type_exists", "type_size": "type_size", "enumval_exists": "enumval_exists",
    "enumval_value": "enumval_value",
}  # fmt: skip
_E2BIG: Final = 7
_SPIN_UNLOCK: Final = 94
_KPTR_XCHG: Final = 194


def call(walk: Walk, insn: Insn) -> int:
    """CALL of any kind; gives the next instruction, or ENDS."""
    ref = walk.program.refs.get(walk.pc)
    kfunc = ref.name if ref is not None and ref.kind is RefKind.KFUNC else ""
    if walk.state.locked:
        _check_locked(walk, insn, kfunc)
    if insn.src == isa.PSEUDO_CALL:
        return _own(walk, insn)
    if kfunc:
        return kernelcalls.call(walk, kfunc)
    if walk.pc in walk.program.poisoned:
        _poisoned(walk, walk.program.poisoned[walk.pc])
    return helpercalls.call(walk, insn)


def _poisoned(walk: Walk, what: str) -> None:
    """Words that libbpf puts where the kernel says "invalid func unknown#195896080"."""
    relocation = _CORE.match(what)
    if relocation is not None and relocation[1] in _CORE_WORDS:
        words = f"<{_CORE_WORDS[relocation[1]]}> {{{{.*}}}} {relocation[2]}"
        message = f"failed to resolve CO-RE relocation {words}"
    else:
        lacking = _LACKING.match(what)
        if lacking is not None and lacking[1] not in absent(walk.subject.profile):
            walk.unknown(f"{lacking[1]}() is not in vmlinux: a module may have it")
        message = _LACKING.sub(r"kfunc '\1' is referenced but wasn't resolved", what)
    walk.reject(
        Category.CALL_TYPE,
        message,
        why=f"the kernel lacks what is used here: {what}",
        fix="ask first whether it is there: bpf_core_field_exists(), bpf_ksym_exists()",
        certain=True,
    )


def _check_locked(walk: Walk, insn: Insn, kfunc: str) -> None:
    if insn.src == isa.PSEUDO_CALL:
        return
    if kfunc:
        allowed = kernelcalls.allowed_locked(walk, kfunc)
    else:
        allowed = insn.imm == _SPIN_UNLOCK or (walk.release >= (7, 0) and insn.imm == _KPTR_XCHG)
    if not allowed:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            "function calls are not allowed while holding a lock",
            why=f"{walk.state.lock} is held here",
            fix="unlock before, and keep what may throw or call behind it",
            certain=True,
        )


# ---- the program's functions --------------------------------------------------------------------


def _own(walk: Walk, insn: Insn) -> int:
    index = walk.function_index[walk.pc + 1 + insn.imm]
    if walk.program.functions[index].linkage == "global":
        may_throw = global_functions.call(walk, index)
        if may_throw:
            walk.push(walk.state.copy(), walk.pc + 1)
            throws.check_held(walk, throws=True, called=True)
            throws.end_in_loop(walk)
            return ENDS
        return walk.pc + 1
    frame = enter(walk, walk.state, index)
    caller = walk.state.frames[-2].regs
    frame.regs[1:6] = caller[1:6]
    caller[0:6] = [r.UNREADABLE] * 6
    return walk.program.functions[index].start


def enter(walk: Walk, state: State, index: int) -> Frame:
    """A new frame on top of `state`."""
    limit = walk.subject.profile.max_frames
    if len(state.frames) >= limit:
        walk.reject(
            Category.PROGRAM_STRUCTURE,
            f"the call stack of {len(state.frames) + 1} frames is too deep",
            errno=_E2BIG,
            why=f"this kernel takes {limit} frames, main included",
            fix="inline a function, or make one global",
            certain=True,
        )
    frame = Frame(index, walk.pc, len(state.frames))
    state.frames.append(frame)
    return frame


def return_to_caller(walk: Walk) -> int:
    """EXIT of an inner frame: back behind its call, or to the helper that called back."""
    state = walk.state
    callee, caller = state.frames[-1], state.frames[-2]
    value = callee.regs[0]
    if value.type == r.STACK:
        walk.reject(Category.REGISTER_TYPE, "cannot return stack pointer to the caller")
    called_back = callee.callback
    if called_back is not None:
        _check_callback_value(walk, value, called_back)
    else:
        caller.regs[0] = value
    state.frames.pop()
    if called_back is None:
        return callee.callsite + 1
    walk.widen(callee.callsite)
    return callee.callsite


def _check_callback_value(walk: Walk, value: Reg, callback: Callback) -> None:
    if value.type != r.SCALAR or value.num is None:
        if not value.type and walk.release < (6, 12):
            readable(walk, 0)
        walk.reject(Category.REGISTER_TYPE, "R0 not a scalar value", errno=13)
    number = value.num
    if callback.low <= number.smin and number.smax <= callback.high:
        return
    words = f" smin={number.smin}" if number.smin > -(1 << 63) else ""
    words += f" smax={number.smax}" if number.smax < (1 << 63) - 1 else ""
    words = words or " unknown scalar value"
    walk.reject(
        Category.CALL_TYPE,
        f"At callback return the register R0 has{words} should have been in "
        f"[{callback.low}, {callback.high}]",
        why="a callback says by its value whether the helper goes on",
        fix=f"return {callback.low} or {callback.high}",
    )


def may_goto(walk: Walk, insn: Insn) -> int:
    """may_goto: jumps when its budget is used up; falling through is explored later."""
    other = walk.state.copy()
    other.may_goto += 1
    walk.push(other, walk.pc + 1)
    walk.widen_state(other, walk.pc)
    return walk.pc + 1 + insn.off


# ---- constants ----------------------------------------------------------------------------------


def load_constant(walk: Walk, insn: Insn) -> None:
    """LD_IMM64: a number, a map, a place in a section of globals, a function."""
    writable(walk, insn.dst)
    ref = walk.program.refs.get(walk.pc)
    walk.regs[insn.dst] = _constant(walk, insn, ref)


def _constant(walk: Walk, insn: Insn, ref: Ref | None) -> Reg:
    if ref is None:
        high = walk.insns[walk.pc + 1].imm & 0xFFFF_FFFF
        return scalar(walk.domain.known(high << 32 | insn.imm & 0xFFFF_FFFF))
    if ref.kind is RefKind.MAP:
        return Reg(r.MAP_PTR, what=walk.maps[ref.name])
    if ref.kind is RefKind.GLOBAL:
        view = walk.maps[ref.name]
        if view.type == MapType.ARENA:
            return scalar(walk.domain.unknown)
        return Reg(r.MAP_VALUE, what=view, off=ref.offset)
    if ref.kind is RefKind.FUNCTION:
        index = walk.function_index[walk.pc + 1 + insn.imm]
        function = walk.program.functions[index]
        if function.linkage != "static":
            walk.reject(Category.CALL_TYPE, "callback function not static")
        return Reg(r.FUNC, what=index)
    typed = insn.src == isa.PSEUDO_BTF_ID
    return walk.unknown(f"the {'type' if typed else 'address'} of the kernel's {ref.name}")


def load_packet(walk: Walk, insn: Insn) -> None:
    """LD_ABS and LD_IND: read the packet, or leave the program."""
    if walk.kind not in ("socket_filter", "tc", "sched_act", "cgroup_skb"):
        walk.reject(
            Category.POLICY,
            "BPF_LD_[ABS|IND] instructions not allowed for this program type",
        )
    if len(walk.state.frames) > 1 or walk.state.frames[0].function:
        walk.unknown("BPF_LD_[ABS|IND] in a function")
    if walk.state.locked or walk.state.refs or walk.state.rcu or walk.state.preempt:
        walk.unknown("BPF_LD_[ABS|IND] while something is held")
    context = readable(walk, 6)
    if context.type != r.CTX:
        walk.reject(
            Category.REGISTER_TYPE,
            "at the time of BPF_LD_ABS|IND R6 != pointer to skb",
        )
    if insn.mode == "ind" and readable(walk, insn.src).type != r.SCALAR:
        walk.unknown(f"BPF_LD_IND with {type_name(walk.regs[insn.src])}")
    throws.check_value_of_packet_load(walk)
    walk.regs[0:6] = [scalar(walk.domain.loaded(insn.size_bytes))] + [r.UNREADABLE] * 5
