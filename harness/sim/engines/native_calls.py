# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Calls as LLVM IR: subprograms directly, everything else through Python.

A subprogram is called directly where no companion sits on it and nothing is held that somebody
would have to look after; Python does the other calls as the machine does them (Machine.call).
"""

from typing import TYPE_CHECKING

from harness.bpf import isa
from harness.bpf.isa import Insn
from harness.sim.engines import native_layout as at
from harness.sim.engines.native_facts import ARGUMENT_BITS, ARGUMENTS, FRAME, Facts
from harness.sim.engines.native_text import COLD
from harness.sim.frames import MAX_LIVE_FRAMES

if TYPE_CHECKING:
    from harness.sim.engines.native_emit import Function

_EVERY = range(FRAME + 1)


def outside(text: "Function", insn: Insn) -> None:
    """A helper or kfunc; bpf_throw() natively, where nothing but the cookie matters."""
    ref, wanted = text.program.refs.get(text.pc), text.facts.given(text.pc)
    if insn.src == isa.PSEUDO_KFUNC_CALL and ref is not None and ref.name == "bpf_throw":
        _throw(text)
    _write_registers(text, range(1, 6), wanted)
    _take_r0(text, text.call_out(at.OUTSIDE, text.bits(ARGUMENTS, wanted)))
    _drop_arguments(text)


def step(text: "Function") -> None:
    """The reference interpreter does one instruction on all registers."""
    _write_registers(text, _EVERY, -1)
    text.call_out(at.STEP, text.bits(_EVERY, -1))
    full = text.read(at.KNOWN)
    for register in range(FRAME + (not text.facts.fixed_frame)):
        shifted = text.op(f"lshr i64 {full}, {register}")
        text.put(register, text.read(at.REGISTERS + 8 * register))
        text.hold(register, text.op(f"trunc i64 {shifted} to i1"))


def call(text: "Function", callee: Facts) -> None:
    """A subprogram: directly, or through Python where something watches or is held."""
    text.save()
    for register in ARGUMENTS:  # before ways part
        if text.known.may >> register & 1:
            text.raw(register)
    missing = callee.needs & ~text.known.must
    if callee.index in text.unit.watched or missing:
        _through_python(text, callee)
    elif text.facts.pure:
        _directly(text, callee)
    else:
        indirect, direct, done = text.fresh(), text.fresh(), text.fresh()
        held = text.op(f"icmp ne i64 {text.read(at.HELD)}, 0")
        text.add(f"br i1 {held}, label %{indirect}, label %{direct}{COLD}")
        budget = text.budget
        text.label(indirect)
        _through_python(text, callee)
        text.add(f"br label %{done}")
        text.budget = budget
        text.label(direct)
        _directly(text, callee)
        text.add(f"br label %{done}")
        text.label(done)
        text.budget = text.op("load i64, ptr %bud")
    _drop_arguments(text)
    text.forget(0)


def _write_registers(text: "Function", registers: range, wanted: int) -> None:
    """Put the registers that may hold something where Python finds them."""
    for register in registers:
        if (text.known.may & wanted) >> register & 1:
            text.write(at.REGISTERS + 8 * register, text.raw(register))


def _take_r0(text: "Function", value: str) -> None:
    text.put(0, value)
    if text.facts.asked & 1:
        text.hold(0, text.op(f"trunc i64 {text.read(at.KNOWN)} to i1"))


def _drop_arguments(text: "Function") -> None:
    for register in ARGUMENTS:
        text.hold(register, "false")


def _throw(text: "Function") -> None:
    fast, slow = text.fresh(), text.fresh()
    cookie = text.raw(1) if text.known.may >> 1 & 1 else "0"
    bit = text.op(f"and i64 {text.bits(ARGUMENTS, 1 << 1)}, {text.read(at.FAST_THROW)}")
    text.add(f"br i1 {text.op(f'trunc i64 {bit} to i1')}, label %{fast}, label %{slow}")
    text.label(fast)
    text.write(at.VALUE, cookie)
    text.write(at.EXIT_PC, text.site())
    text.leave(str(at.THROWN))
    text.label(slow)


def _through_python(text: "Function", callee: Facts) -> None:
    _write_registers(text, ARGUMENTS, ARGUMENT_BITS)
    full = text.bits(ARGUMENTS, ARGUMENT_BITS)
    _take_r0(text, text.call_out(at.CALL, full, callee.index))
    text.save()


def _directly(text: "Function", callee: Facts) -> None:
    depth, frame = _deeper(text, callee), "0"
    if not callee.pure:  # else nobody sees it
        frame = text.op(f"call i64 @stack_address(ptr %st, i64 %depth, i64 {text.budget})")
    values = (text.raw(r) if callee.needs >> r & 1 else "0" for r in ARGUMENTS)
    given = ", ".join(f"i64 {value}" for value in values)
    made = text.op(
        f"call fastcc %r @f{callee.index}(ptr %st, {given}, i64 {frame}, i64 {depth}, "
        f"i64 {text.budget})"
    )
    value, status = text.unpack(made)
    text.put(0, value)
    text.save()
    good, odd, end = text.fresh(), text.fresh(), text.fresh()
    zero = text.op(f"icmp eq i64 {status}, 0")
    text.add(f"br i1 {zero}, label %{good}, label %{odd}")
    text.label(odd)
    _odd_return(text, callee, status, good, end)
    text.label(good)
    if not callee.pure:
        _still_held(text, depth)
    text.add(f"br label %{end}")
    text.label(end)
    text.budget = text.op("load i64, ptr %bud")


def _deeper(text: "Function", callee: Facts) -> str:
    """Depth of the callee. Ends where the chain or all frames are too many."""
    one = (1 << at.LIVE_SHIFT) + 1
    depth = text.op(f"add i64 %depth, {one}")
    if text.unit.restarts_at_global and callee.function.linkage == "global":
        live = text.op(f"and i64 %depth, {~at.CHAIN_MASK}")
        depth = text.op(f"add i64 {live}, {one}")
    chain = text.op(f"and i64 {depth}, {at.CHAIN_MASK}")
    deep = text.op(f"icmp ugt i64 {chain}, {text.unit.max_frames}")
    many = text.op(f"icmp uge i64 {depth}, {(MAX_LIVE_FRAMES + 1) << at.LIVE_SHIFT}")
    go_on, ended = text.fresh(), text.ended(at.TOO_DEEP, depth)
    either = text.op(f"or i1 {deep}, {many}")
    text.add(f"br i1 {either}, label %{ended}, label %{go_on}{COLD}")
    text.label(go_on)
    return depth


def _odd_return(text: "Function", callee: Facts, status: str, good: str, end: str) -> None:
    """No R0, a tail call that replaces the callee, or the end of this function too."""
    empty, other = text.fresh(), text.fresh()
    text.hold(0, "false")
    text.add(f"store i64 {status}, ptr %status")
    is_empty = text.op(f"icmp eq i64 {status}, {at.EMPTY}")
    if callee.pure:
        text.add(f"br i1 {is_empty}, label %{good}, label %leave")
        return
    text.add(f"br i1 {is_empty}, label %{empty}, label %{other}")
    text.label(empty)
    text.add(f"br label %{good}")
    text.label(other)
    replaced = text.fresh()
    is_replaced = text.op(f"icmp eq i64 {status}, {at.REPLACED}")
    text.add(f"br i1 {is_replaced}, label %{replaced}, label %leave")
    text.label(replaced)
    budget = text.budget
    value = text.call_out(at.REPLACE)
    text.add(f"store i64 {value}, ptr %r0")
    text.hold(0, "true")
    text.add(f"br label %{end}")
    text.budget = budget


def _still_held(text: "Function", depth: str) -> None:
    """The callee returned with something held: Python says whether it may."""
    held, free = text.fresh(), text.fresh()
    is_held = text.op(f"icmp ne i64 {text.read(at.HELD)}, 0")
    text.add(f"br i1 {is_held}, label %{held}, label %{free}{COLD}")
    text.label(held)
    text.call_out(at.RETURN, depth=depth)
    text.add(f"br label %{free}")
    text.label(free)
