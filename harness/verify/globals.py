# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Global functions: what they may assume of their arguments, and what callers must pass.

Each is explored once by itself, with any arguments that its C types allow. Source:
do_check_common(), btf_check_func_arg_match(), check_func_call() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import helpermem, signatures, sleeping, throws
from harness.verify import registers as r
from harness.verify.prediction import Category, Rejection
from harness.verify.registers import Reg, scalar

if TYPE_CHECKING:
    from harness.verify.frames import Frame
    from harness.verify.signatures import Argument
    from harness.verify.walk import Walk


# bytes
_LARGEST: Final = 0x7FFF_FFFF


def argument_registers(walk: Walk, index: int, frame: Frame) -> None:
    """Registers at the start of a function that is explored by itself."""
    function = walk.program.functions[index]
    if index == walk.program.exception_callback:
        signatures.check_callback(walk.subject)
    try:
        found = walk.signature(index)
    except Rejection as error:
        error.pc = function.start if error.pc is None else error.pc
        raise
    if found is None:
        walk.unknown(f"the arguments of {function.name}()")
    for number, argument in enumerate(found.arguments, 1):
        frame.regs[number] = _assumed(walk, argument)


def _assumed(walk: Walk, argument: Argument) -> Reg:
    if argument.kind in (signatures.SCALAR, signatures.ARENA):
        return scalar(walk.domain.unknown)
    if argument.kind == signatures.CTX:
        return Reg(r.CTX)
    if argument.kind == signatures.MEM:
        flags = r.MAYBE_NULL if argument.nullable else 0
        return Reg(r.MEM, size=argument.size_bytes, flags=flags, id=walk.new_id())
    return walk.unknown(f"an argument that is a {argument.kind} pointer")


def call(walk: Walk, index: int) -> bool:
    """A call of a global function, which is taken at its word. True: it may throw."""
    state, profile, name = walk.state, walk.subject.profile, walk.program.functions[index].name
    refused = _arguments(walk, index)
    if state.locked:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            "global function calls are not allowed while holding a lock",
            why=f"{name}() is global, and {state.lock} is held",
            fix="make the function static",
            certain=True,
        )
    if state.preempt and not profile.calls_global_unpreempted:
        walk.reject(
            Category.EXECUTION_CONTEXT,
            "global function calls are not allowed with preemption disabled",
            why=f"{name}() is global and preemption is off",
            fix="make the function static",
            certain=True,
        )
    sleeping.check_call(walk, index)
    if refused is not None:
        raise refused
    walk.called.add(index)
    if walk.flow.moves_packet[index]:
        forget_packets(walk)
    regs = walk.regs
    void = walk.returns_void(index)
    regs[0:6] = [r.UNREADABLE if void else scalar(walk.domain.unknown)] + [r.UNREADABLE] * 5
    if walk.flow.throws[index] and profile.global_throw_leaks:
        throws.note_leak(walk, references=True)
    return walk.flow.throws[index] and not profile.global_throw_leaks


def forget_packets(walk: Walk) -> None:
    """clear_all_pkt_pointers(): the packet may have moved."""
    for place, key, reg in list(walk.state.places()):
        if reg.type in r.PACKETS_AND_END:
            walk.state.replace(place, key, scalar(walk.domain.unknown))


def _arguments(walk: Walk, index: int) -> Rejection | None:
    """The refusal of what is passed; it is raised behind other checks."""
    try:
        found = walk.signature(index)
    except Rejection as error:
        error.pc = walk.pc if error.pc is None else error.pc
        return error
    if found is None:
        walk.unknown(f"the arguments of {walk.program.functions[index].name}()")
    for number, argument in enumerate(found.arguments, 1):
        try:
            _check_argument(walk, number, argument)
            _check_packet(walk, number, argument, index)
        except Rejection as error:
            name = walk.program.functions[index].name
            error.message += (
                f"{{{{[\\s\\S]*}}}}Caller passes invalid args into func#{index} ('{name}')"
            )
            return error
    return None


def _check_argument(walk: Walk, number: int, argument: Argument) -> None:
    reg = walk.regs[number]
    if argument.kind == signatures.SCALAR:
        if reg.type != r.SCALAR:
            walk.reject(Category.CALL_TYPE, f"R{number} is not a scalar")
    elif argument.kind == signatures.CTX:
        if reg.type != r.CTX:
            walk.reject(Category.CALL_TYPE, f"arg#{number - 1} expects pointer to ctx")
        helpermem.check_fixed(walk, reg, number)
    elif argument.kind == signatures.MEM:
        _check_memory(walk, reg, number, argument)
    elif argument.kind == signatures.ARENA:
        if reg.type not in (r.ARENA, r.SCALAR):
            words = f"R{number} is not a pointer to arena or scalar"
            walk.reject(Category.CALL_TYPE, words)
    else:
        walk.unknown(f"an argument that is a {argument.kind} pointer")


def _check_packet(walk: Walk, number: int, argument: Argument, index: int) -> None:
    """A packet that the function may move is no memory to pass by its address (7.3)."""
    passed = argument.kind == signatures.MEM and walk.regs[number].type in r.PACKETS
    if not passed or not walk.flow.moves_packet[index]:
        return
    words = f"R{number} is a packet pointer, but func#{index} may change packet data"
    if walk.release < (7, 0):
        walk.unknown(f"{words}: which stable releases look at it")
    walk.reject(Category.CALL_TYPE, words)


def _check_memory(walk: Walk, reg: Reg, number: int, argument: Argument) -> None:
    if reg.const != 0 and walk.release >= (7, 0) and argument.size_bytes > _LARGEST:
        words = f"R{number} memory size {argument.size_bytes} is too large"
        walk.reject(Category.CALL_TYPE, words)
    if reg.const != 0:
        checked = reg
        if reg.flags & r.MAYBE_NULL:
            checked = reg.copy()
            checked.flags &= ~r.MAYBE_NULL
        for write in (False, True):
            try:
                helpermem.access(
                    walk, checked, number, argument.size_bytes, write=write, zero_size=True
                )
            except Rejection as error:
                error.errno = 22
                raise
    if not argument.nullable and (reg.flags & r.MAYBE_NULL or reg.const == 0):
        if reg.const == 0:
            walk.unknown("NULL passed to a global function for a pointer that is never NULL")
        walk.reject(Category.CALL_TYPE, f"arg#{number - 1} is expected to be non-NULL")
