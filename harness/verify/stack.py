# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loads and stores in stack slots: spills, fills, zeroes, bytes that nobody wrote.

For a loader with CAP_PERFMON, as all of ours are: pointers may leak, uninitialised bytes may be
read. Source: check_stack_{read,write}_{fixed,var}_off() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify.frames import (
    ALL_MISC,
    ALL_SPILLED,
    DYNPTR_SLOT,
    EMPTY,
    INVALID,
    MAX_STACK,
    MISC,
    SPECIAL,
    SPILL,
    ZERO,
    Frame,
    Slot,
)
from harness.verify.prediction import Category
from harness.verify.registers import SCALAR, STACK, Reg, scalar
from harness.verify.rules import rules_of

if TYPE_CHECKING:
    from harness.verify.walk import Walk

_MAX_VAR_OFF: Final = 1 << 29


def offsets(reg: Reg, off: int) -> tuple[int, int]:
    """Smallest and largest offset of an access at `off` from a pointer."""
    if reg.num is None:
        return reg.off + off, reg.off + off
    return reg.num.smin + reg.off + off, reg.num.smax + reg.off + off


def check_bounds(
    walk: Walk, reg: Reg, regno: int, off: int, size: int, *, write: bool, helper: bool = False
) -> None:
    """check_stack_access_within_bounds(): between the frame pointer and 512 bytes below."""
    extra = " write to" if write else " read from"
    if helper and walk.release < (6, 14):
        extra = " indirect access to"
    if reg.num is not None and (reg.num.smax >= _MAX_VAR_OFF or reg.num.smin <= -_MAX_VAR_OFF):
        walk.reject(
            Category.MEMORY, f"invalid unbounded variable-offset{extra} stack R{regno}", errno=13
        )
    if not write:
        _require_liveness(walk, reg)
    low, high = offsets(reg, off)
    if -MAX_STACK <= low <= -1 and high + size <= 0 and size >= 0:
        _deepen(walk, reg, -low)
        return
    outside = low < -MAX_STACK or low > -1
    if reg.num is None:
        words = f"invalid{extra} stack R{regno} off={low} size={size}"
    else:
        words = f"invalid variable-offset{extra} stack R{regno} var_off={{{{.*}}}} size={size}"
    why, fix = _out_of_frame(low, high, size)
    walk.reject(Category.MEMORY, words, errno=13 if outside else 22, why=why, fix=fix)


def _out_of_frame(low: int, high: int, size: int) -> tuple[str, str]:
    if low < -MAX_STACK:
        why = f"the access may begin {-low} bytes below the top of the frame, which has {MAX_STACK}"
        return why, "limit the offset, or put what is that large into a map"
    why = f"{size} bytes are accessed, and from there to the end of the frame are {max(-high, 0)}"
    return why, "make what lies there as large as what is accessed, or access less"


def _require_liveness(walk: Walk, reg: Reg) -> None:
    """bpf_stack_slot_alive() looks calls up by place and depth, and may find another chain's.

    Depths count from the first function that hands on an address of its stack; then a slot that is
    read is taken for dead, and the read refused (a bug of 7.x).
    """
    frames = walk.state.frames
    if walk.release < (7, 0) or not reg.what or reg.what == len(frames) - 1:
        return
    if any(frame.function in walk.at_several_depths for frame in frames[reg.what + 1 :]):
        walk.unknown("a read of a caller's stack by a function that is called at several depths")


def object_slot(walk: Walk, reg: Reg, what: str) -> int | str:
    """Where an object of one slot lies (stack_slot_obj_get_spi()); words: in none, and why."""
    if reg.num is not None:
        return f"{what} has to be at a constant offset"
    late = walk.release >= (7, 0)
    if reg.off % 8 or reg.off > 0 or (late and not reg.off):
        return f"cannot pass in {what} at an offset={reg.off}"
    # before 7.0 the kernel's division takes the frame pointer itself for the first slot
    return (reg.off or -8) >> 3


def _deepen(walk: Walk, reg: Reg, depth: int) -> None:
    function = walk.program.functions[walk.state.frames[reg.what].function].start
    stacks = walk.explored.stacks
    if stacks.get(function, 0) < depth:
        stacks[function] = depth


def store(walk: Walk, reg: Reg, off: int, size: int, value: Reg | None, number: int | None) -> None:
    """Write `value` (None: the constant `number`, None too: anything) through a stack pointer."""
    frame: Frame = walk.state.frames[reg.what]
    if reg.num is not None:
        _store_somewhere(walk, frame, reg, off, size, value, number)
        return
    at = reg.off + off
    key, first = at >> 3, at & 7
    old = frame.stack.get(key, EMPTY)
    _destroy_dynptr(walk, old)
    if size < 8 and old.reg is None and SPILL in old.kinds:  # bytes of a register
        walk.unknown("a store into what is left of a spill")
    if value is None and number is not None and not first:
        value = scalar(walk.domain.known(number))
        _spill(frame, key, old, value, size)
        return
    if value is not None and not first and value.type == SCALAR:
        _spill_scalar(walk, frame, key, old, value, size)
        return
    if value is not None and value.type != SCALAR and value.type:
        if size != 8:  # bytes of a register
            walk.reject(Category.MEMORY, "invalid size of register spill", errno=13)
        if frame is not walk.state.frames[-1] and value.type == STACK:
            walk.reject(
                Category.MEMORY,
                "cannot spill pointers to stack into stack frame of the caller",
            )
        frame.stack[key] = Slot(ALL_SPILLED, value)
        return
    zero = value.const == 0 if value is not None else number == 0
    kinds = _without_spill(old)
    new = ZERO if zero else MISC
    frame.stack[key] = Slot(kinds[:first] + new * size + kinds[first + size :])


def _spill_scalar(walk: Walk, frame: Frame, key: int, old: Slot, value: Reg, size: int) -> None:
    number = value.num
    assert number is not None
    fits = number.umax < 1 << 8 * size
    if fits and (value.delta is not None or (number.tnum.mask and not value.id)):
        value = link(walk, value)
    elif not fits and value.id:
        value = value.copy()
        value.id, value.delta, value.flags = 0, None, 0
    _spill(frame, key, old, value, size)


def link(walk: Walk, value: Reg) -> Reg:
    """Give a number an id wherever this very register is, so that copies stay linked to it.

    assign_scalar_id_before_mov(): a number that is another one's plus a constant is it no more.
    """
    new = value.copy()
    number = value.num
    new.id = walk.new_id() if number is not None and number.tnum.mask else 0
    new.delta, new.flags = None, 0
    for frame in walk.state.frames:
        regs = frame.regs
        for place, reg in enumerate(regs):
            if reg is value:
                regs[place] = new
    return new


def _spill(frame: Frame, key: int, old: Slot, value: Reg, size: int) -> None:
    if size == 8:  # bytes of a register
        frame.stack[key] = Slot(ALL_SPILLED, value)
        return
    rest = _without_spill(old)[size:]
    frame.stack[key] = Slot(SPILL * size + rest, value)


def _without_spill(slot: Slot) -> str:
    """What is left of a slot that is partly written: spilled bytes are numbers now."""
    kinds = slot.kinds
    if slot.reg is None and SPILL not in kinds and not SPECIAL & set(kinds):
        return kinds
    return "".join(k if k in (INVALID, MISC, ZERO) else MISC for k in kinds)


def _destroy_dynptr(walk: Walk, slot: Slot) -> None:
    if slot.kinds[0] == DYNPTR_SLOT:
        walk.unknown("a store into a dynptr's stack slot")


def _store_somewhere(
    walk: Walk, frame: Frame, reg: Reg, off: int, size: int, value: Reg | None, number: int | None
) -> None:
    low, high = offsets(reg, off)
    zero = value.const == 0 if value is not None else number == 0
    for key in range(low >> 3, (high + size - 1 >> 3) + 1):
        old = frame.stack.get(key, EMPTY)
        _destroy_dynptr(walk, old)
        if zero and old.reg is not None and old.reg.const == 0:
            walk.unknown("a zero is stored at a variable offset over a spilled zero")
        first, last = max(low - key * 8, 0), min(high + size - key * 8, 8)
        kinds = old.kinds
        if rules_of(walk.subject.profile).scrubs_around or kinds[0] in SPECIAL:
            kinds = _without_spill(old)
        middle = "".join(ZERO if zero and k == ZERO else MISC for k in kinds[first:last])
        frame.stack[key] = Slot(kinds[:first] + middle + kinds[last:])


def load(walk: Walk, reg: Reg, off: int, size: int) -> Reg:
    """What a load through a stack pointer gives, before it is cut to `size`."""
    frame: Frame = walk.state.frames[reg.what]
    if reg.num is not None:
        low, high = offsets(reg, off)
        reached = (frame.stack.get(k, EMPTY) for k in range(low >> 3, (high + size - 1 >> 3) + 1))
        if any(slot.reg is None and SPILL in slot.kinds for slot in reached):
            walk.unknown("a read of what is left of a spill")
        return _bytes(walk, frame, low, high + size)
    at = reg.off + off
    key, first = at >> 3, at & 7
    slot = frame.stack.get(key, EMPTY)
    if slot.reg is None and SPILL in slot.kinds:
        _check_rest(walk, slot, at, size)
    if slot.reg is None or slot.kinds[0] != SPILL:
        return _bytes(walk, frame, at, at + size)
    spilled = 8 if slot.kinds == ALL_SPILLED else slot.kinds.rindex(SPILL) + 1
    if size == 8 and spilled == 8:  # bytes of a register
        return _fill(walk, frame, key, slot)
    if slot.reg.type != SCALAR:
        walk.reject(Category.MEMORY, "invalid size of register fill", errno=13)
    if size <= spilled and not first:
        number = slot.reg.num
        assert number is not None
        if size == spilled == 4 and number.umax < 1 << 32:  # half a register
            return _fill(walk, frame, key, slot)
        if number.umax < 1 << 8 * size:
            return slot.reg
        new = slot.reg.copy()
        new.id, new.delta, new.flags = 0, None, 0
        return new
    return _bytes(walk, frame, at, at + size)


def _check_rest(walk: Walk, slot: Slot, at: int, size: int) -> None:
    """A read of what a store at a varying offset has left of a spill (rules.scrubs_around)."""
    why = "a store at an offset that varies may have changed part of what was spilled here"
    fix = "bound the index closer, so that the store cannot reach it, or index a map's value"
    if slot.kinds[0] == SPILL:
        walk.reject(Category.MEMORY, "invalid size of register fill", errno=13, why=why, fix=fix)
    first = at & 7
    left = slot.kinds[first : first + size].find(SPILL)
    if left >= 0:
        words = f"invalid read from stack off {at}+{left} size {size}"
        walk.reject(Category.MEMORY, words, errno=13, why=why, fix=fix)


def _fill(walk: Walk, frame: Frame, key: int, slot: Slot) -> Reg:
    reg = slot.reg
    assert reg is not None
    if reg.type == SCALAR and reg.const is None and not reg.id:
        new = reg.copy()
        new.id = walk.new_id()
        frame.stack[key] = Slot(slot.kinds, new)
        return new
    return reg


def _bytes(walk: Walk, frame: Frame, low: int, high: int) -> Reg:
    """mark_reg_stack_read(): zero where all bytes are, else unknown."""
    zero = True
    for at in range(low, high):
        slot = frame.stack.get(at >> 3, EMPTY)
        kind = slot.kinds[at & 7]
        if kind in SPECIAL:
            walk.reject(
                Category.MEMORY,
                f"invalid read from stack {{{{.*}}}} size {high - low}",
                errno=13,
                why="the bytes belong to an iterator, a dynptr or a saved interrupt state",
            )
        zero &= kind == ZERO or (kind == SPILL and slot.reg is not None and slot.reg.const == 0)
    return scalar(walk.domain.known(0) if zero else walk.domain.unknown)


def clobber(frame: Frame, low: int, high: int) -> None:
    """A helper may have written bytes [low, high): they are numbers now."""
    for key in range(low >> 3, (high - 1 >> 3) + 1):
        first, last = max(low - key * 8, 0), min(high - key * 8, 8)
        if last - first == 8:  # all bytes of a slot
            frame.stack[key] = ALL_MISC
            continue
        kinds = _without_spill(frame.stack.get(key, EMPTY))
        frame.stack[key] = Slot(kinds[:first] + MISC * (last - first) + kinds[last:])
