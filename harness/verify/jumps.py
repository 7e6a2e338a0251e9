# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Conditional jumps: which way they go, and what is known behind them on either side.

Source: check_cond_jmp_op(), is_branch_taken(), sync_linked_regs(), find_good_pkt_pointers() and
mark_ptr_or_null_regs() in kernel/bpf/verifier.c. Arithmetic of numbers: harness.verify.scalar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.bpf.isa import JUMP_OPS, Class, Insn
from harness.verify import registers as r
from harness.verify.alu import LOW_HALF
from harness.verify.branches import FLIPPED, REVERSED
from harness.verify.memory import MAX_VAR_OFF, readable
from harness.verify.registers import Reg, scalar

if TYPE_CHECKING:
    from harness.verify.frames import State
    from harness.verify.scalar import Scalar
    from harness.verify.walk import Walk

_MAX_PACKET_OFF: Final = 0xFFFF
_NEVER_NULL: Final = frozenset({
    r.SOCKET, r.TCP_SOCK, r.XDP_SOCK, r.BUF, r.MAP_VALUE, r.MAP_KEY, r.SOCK_COMMON, r.MEM,
    r.MAP_PTR,
})  # fmt: skip


def step(walk: Walk, insn: Insn) -> int:
    """One conditional jump; gives the next instruction, puts the other one on the stack."""
    op = JUMP_OPS[insn.op]
    bits = 64 if insn.code & 7 == Class.JMP else 32
    target = readable(walk, insn.dst)
    source = readable(walk, insn.src) if insn.uses_register else scalar(walk.domain.known(insn.imm))
    taken = _decide(walk, op, target, source, bits, same=insn.uses_register and
                    insn.src == insn.dst)  # fmt: skip
    here, there = walk.pc + 1, walk.pc + 1 + insn.off
    if taken is not None:
        walk.turn(taken=taken)
        return there if taken else here
    other = walk.state.copy()
    _learn(walk, insn, op, bits, target, source, other)
    walk.branch(other, there)
    return here


def _decide(walk: Walk, op: str, a: Reg, b: Reg, bits: int, *, same: bool) -> bool | None:
    if a.type == r.SCALAR and b.type == r.SCALAR:
        assert a.num is not None
        assert b.num is not None
        return walk.domain.decide(op, a.num, b.num, bits, same=same)
    if a.type in r.PACKETS_AND_END and b.type in r.PACKETS_AND_END and bits == 64:
        return _decide_packet(op, a, b)
    if bits == 32 and walk.release >= (7, 0):  # width of the comparison
        return None
    if b.const is None:
        a, b, op = b, a, FLIPPED[op]
    if b.const != 0 or not _not_null(walk, a):
        return None
    return {"eq": False, "ne": True}.get(op)


def _not_null(walk: Walk, reg: Reg) -> bool:
    """reg_not_null()."""
    if reg.flags & r.MAYBE_NULL or (reg.type == r.MEM and reg.flags & r.UNTRUSTED):
        return False
    if walk.release >= (7, 0) and reg.num is not None:
        low, high = reg.num.smin + reg.off, reg.num.smax + reg.off
        if low <= -MAX_VAR_OFF or high >= MAX_VAR_OFF:
            return False
    if reg.type == r.BTF_ID:
        return is_trusted(reg)
    if reg.type == r.MAP_PTR:
        return walk.release >= (6, 12)
    return reg.type in _NEVER_NULL


def is_trusted(reg: Reg) -> bool:
    """is_trusted_reg(): of an acquired reference, or marked so."""
    if reg.ref:
        return True
    unsafe = r.MAYBE_NULL | r.UNTRUSTED | r.USER | r.PERCPU
    return bool(reg.flags & (r.TRUSTED | r.ALLOC)) and not reg.flags & unsafe


def _decide_packet(op: str, a: Reg, b: Reg) -> bool | None:
    if b.type == r.PACKET_END:
        packet = a
    elif a.type == r.PACKET_END:
        packet, op = b, FLIPPED[op]
    else:
        return None
    if packet.range >= 0:
        return None
    if op in ("le", "gt"):
        return op == "gt" if packet.range == r.BEYOND_END else None
    return op == "ge" if op in ("lt", "ge") else None


# ---- learning -----------------------------------------------------------------------------------


def _learn(  # the operands and both sides
    walk: Walk, insn: Insn, op: str, bits: int, target: Reg, source: Reg, other: State
) -> None:
    """`walk.state` goes on where the condition does not hold, `other` where it does."""
    this = walk.state
    if target.type == r.SCALAR and source.type == r.SCALAR:
        _learn_numbers(walk, insn, op, bits, target, source, other)
        return
    if bits == 32:  # pointers are compared by 64 bits
        return
    _learn_null(insn, op, target, source, this, other, walk)
    may_be_null = target.flags & r.MAYBE_NULL and target.type != r.SCALAR
    if op in ("eq", "ne") and may_be_null and source.const == 0:
        mark_null(walk, this, target, null=op == "ne")
        mark_null(walk, other, target, null=op == "eq")
    elif insn.uses_register:
        _match_packet(walk, insn, op, target, source, this, other)


def _learn_null(  # the operands and both sides
    insn: Insn, op: str, target: Reg, source: Reg, this: State, other: State, walk: Walk
) -> None:
    """Equal to a pointer that is not NULL: not NULL."""
    if op not in ("eq", "ne") or not insn.uses_register:
        return
    if r.SCALAR in (target.type, source.type) or r.BTF_ID in (target.type, source.type):
        return
    regs = (other if op == "eq" else this).frames[-1].regs
    if _not_null(walk, target) and source.flags & r.MAYBE_NULL:
        regs[insn.src] = _not_null_now(source)
    if _not_null(walk, source) and target.flags & r.MAYBE_NULL:
        regs[insn.dst] = _not_null_now(target)


def _learn_numbers(  # the operands and both sides
    walk: Walk, insn: Insn, op: str, bits: int, target: Reg, source: Reg, other: State
) -> None:
    domain = walk.domain
    a, b = target.num, source.num
    assert a is not None
    assert b is not None
    if insn.uses_register and insn.src == insn.dst:
        return
    linked = _linked(walk, target, source)
    for state, condition in ((walk.state, REVERSED[op]), (other, op)):
        new_a, new_b = domain.learn(condition, a, b, bits)
        regs = state.frames[-1].regs
        one = _with_number(target, new_a)
        two = _with_number(source, new_b)
        regs[insn.dst] = one
        if insn.uses_register:
            regs[insn.src] = two
            if two.id:
                _sync(walk, state, two, linked)
        if regs[insn.dst].id:
            _sync(walk, state, regs[insn.dst], linked)


def _with_number(reg: Reg, number: Scalar) -> Reg:
    if reg.num is number:
        return reg
    new = reg.copy()
    new.num = number
    return new


def _linked(walk: Walk, target: Reg, source: Reg) -> list[tuple[int, bool, int]]:
    """Where registers of the same ids are: (frame, on the stack, number); six at most."""
    wanted = {reg.id for reg in (target, source) if reg.id}
    found: list[tuple[int, bool, int]] = []
    if not wanted:
        return found
    for number in range(len(walk.state.frames) - 1, -1, -1):
        frame = walk.state.frames[number]
        for index in range(10):
            reg = frame.regs[index]
            if reg.id in wanted and reg.type == r.SCALAR:
                found.append((number, False, index))
        for key, slot in frame.stack.items():
            if slot.reg is not None and slot.reg.id in wanted and slot.reg.type == r.SCALAR:
                found.append((number, True, key))
    return found


def _sync(walk: Walk, state: State, known: Reg, linked: list[tuple[int, bool, int]]) -> None:
    for frame_number, on_stack, key in linked:
        frame = state.frames[frame_number]
        slot = frame.stack[key] if on_stack else None
        reg = slot.reg if slot is not None else frame.regs[key]
        if reg is None or reg is known or reg.type != r.SCALAR or reg.id != known.id:
            continue
        new = _synced(walk, reg, known)
        if new is None:
            continue
        if slot is not None:
            frame.stack[key] = slot._replace(reg=new)
        else:
            frame.regs[key] = new


def _synced(walk: Walk, reg: Reg, known: Reg) -> Reg | None:
    if reg.delta == known.delta and reg.flags == known.flags:
        return known
    if reg.delta is not None and known.delta is not None and reg.flags != known.flags:
        return None
    domain, number = walk.domain, known.num
    assert number is not None
    by = (reg.delta or 0) - (known.delta or 0)
    new = known.copy()
    new.delta, new.id, new.flags = reg.delta, reg.id, reg.flags
    if by:
        number = domain.alu("add", number, domain.known(by), 64)
    if (reg.flags | known.flags) & LOW_HALF:
        number = domain.low_half(number)
    new.num = number
    return new


# ---- NULL ---------------------------------------------------------------------------------------


def _not_null_now(reg: Reg) -> Reg:
    """mark_ptr_not_null_reg(): a looked-up map is a map, a looked-up socket a socket."""
    new = reg.copy()
    new.flags &= ~r.MAYBE_NULL
    if reg.type == r.MAP_VALUE and reg.what.inner is not None:
        new.type, new.what = r.MAP_PTR, reg.what.inner
    return new


def mark_null(walk: Walk, state: State, reg: Reg, *, null: bool) -> None:
    """All registers with the id of one that was compared with NULL."""
    nothing = scalar(walk.domain.known(0))
    if null and reg.ref and reg.ref == reg.id:
        state.refs = tuple(ref for ref in state.refs if ref.id != reg.id)
    for place, key, each in list(state.places()):
        if each.id != reg.id or not each.flags & r.MAYBE_NULL or each.type == r.SCALAR:
            continue
        state.replace(place, key, nothing if null else _not_null_now(each))


# ---- packets ------------------------------------------------------------------------------------

# comparison of a packet pointer with the end -> (where it does not hold is inside, strictly)
_INSIDE: Final = {
    "gt": (False, False), "lt": (True, True), "ge": (False, True), "le": (True, False),
}  # fmt: skip


def _match_packet(  # the operands and both sides
    walk: Walk, insn: Insn, op: str, a: Reg, b: Reg, this: State, other: State
) -> None:
    """try_match_pkt_pointers()."""
    if op not in _INSIDE:
        return
    if _is_limit(a, b):
        packet, number = a, insn.dst
    elif _is_limit(b, a):
        packet, number, op = b, insn.src, FLIPPED[op]
    else:
        return
    holds, strict = _INSIDE[op]
    inside, outside = (other, this) if holds else (this, other)
    _widen_range(walk, inside, packet, strict=strict)
    if packet.type == r.PACKET:
        regs = outside.frames[-1].regs
        new = regs[number].copy()
        new.range = r.AT_END if strict else r.BEYOND_END
        regs[number] = new


def _is_limit(packet: Reg, end: Reg) -> bool:
    if packet.type == r.PACKET:
        return end.type == r.PACKET_END
    untouched = end.type == r.PACKET and not end.id and not end.off and end.num is None
    return packet.type == r.PACKET_META and untouched


def _widen_range(walk: Walk, state: State, packet: Reg, *, strict: bool) -> None:
    """find_good_pkt_pointers(): `packet` is in front of the end; strictly: one byte is there."""
    top = packet.off + (packet.num.umax if packet.num is not None else 0)
    reach = top if walk.release >= (7, 0) else packet.off
    if reach < 0 or (reach == 0 and strict):
        return
    if packet.off > _MAX_PACKET_OFF or top > _MAX_PACKET_OFF:
        return
    reach += strict
    for place, key, each in list(state.places()):
        if each.type == packet.type and each.id == packet.id and each.range < reach:
            new = each.copy()
            new.range = reach
            state.replace(place, key, new)
