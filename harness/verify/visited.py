# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Recorded states: a path that comes to a known state ends; one that comes to its own loops.

Records where and when the kernel does, compares more strictly than it: numbers count always, as if
all were "precise". So more is explored than in a kernel, and nothing less. Source:
bpf_is_state_visited(), states_equal(), regsafe(), stacksafe() in kernel/bpf (states.c of 7.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.verify import registers as r
from harness.verify.frames import (
    DYNPTR_SLOT,
    EMPTY,
    INVALID,
    IRQ_SLOT,
    ITER_SLOT,
    MISC,
    SPILL,
    ZERO,
    Frame,
    Slot,
    State,
)
from harness.verify.prediction import Category
from harness.verify.ranges import Arc
from harness.verify.registers import SCALAR, Reg, scalar
from harness.verify.rules import rules_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.verify.walk import Walk

# how strictly states are compared
EXACT: Final = 0
WITHIN: Final = 1
_RANGED: Final = frozenset({r.MAP_VALUE, r.MAP_KEY, r.MEM, r.BUF, r.TP_BUFFER})
# comparisons that fail before a state is forgotten
_MISSES: Final = 3
_MISSES_FORCED: Final = 64
_JUMPS, _INSNS = 2, 8
_LOOP_JUMPS, _LOOP_INSNS = 20, 100
_LONG_HISTORY: Final = 40


class Record:
    """One recorded state."""

    __slots__ = ("hits", "misses", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.hits = 0
        self.misses = 0


def visited(walk: Walk) -> bool:
    """Whether all behind this state is known already; records it otherwise, where it is time."""
    pc, state = walk.pc, walk.state
    forced = pc in walk.flow.force or state.history > _LONG_HISTORY
    jumps, insns = walk.jumps - walk.jumps_then, walk.explored.insns - walk.insns_then
    add = forced or (jumps >= _JUMPS and insns >= _INSNS)
    records = walk.recorded.setdefault(pc, [])
    for record in list(records):
        old: State = record.state
        if old.branches:
            if _converged(walk, old):
                record.hits += 1
                return True
            if not forced and jumps < _LOOP_JUMPS and insns < _LOOP_INSNS:
                add = False
        elif equal(walk, old, state, WITHIN):
            record.hits += 1
            return True
        if add:
            record.misses += 1
        limit = _MISSES_FORCED if pc in walk.flow.force and old.branches else _MISSES
        if record.misses > record.hits * limit + limit:
            records.remove(record)
    if add:
        _record(walk, records)
    return False


def _record(walk: Walk, records: list[Record]) -> None:
    walk.jumps_then, walk.insns_then = walk.jumps, walk.explored.insns
    state = walk.state
    new = state.copy()
    new.pc = walk.pc
    new.branches = 1
    records.insert(0, Record(new))
    chain = loop_chain(walk, new)
    if chain is not None:
        walk.loop_visits.add(chain)
    state.parent = new
    state.history = 0
    walk.explored_states += 1


def loop_chain(walk: Walk, state: State) -> tuple[Any, ...] | None:
    """The outermost frame that stands in a loop, with the calls that lead to it: a visit's key."""
    chain: list[int] = []
    places = [frame.callsite for frame in state.frames[1:]] + [state.pc]
    for pc in places:
        loop = walk.flow.loop.get(pc)
        if loop is not None:
            return (*chain, -loop)
        chain.append(pc)
    return None


def _converged(walk: Walk, old: State) -> bool:
    """Whether a loop that may end by itself goes round without change. Rejects one that may not."""
    state, pc = walk.state, walk.pc
    last = old.frames[-1].callback
    if last is not None and last.late and old.entry != state.entry:
        return False
    if pc in walk.flow.iter_next:
        return equal(walk, old, state, WITHIN) and _active(walk)
    if walk.insns[pc].code == 0xE5:  # may_goto
        if old.may_goto != state.may_goto and equal(walk, old, state, WITHIN):
            return True
    elif pc in walk.flow.calls_back:
        return equal(walk, old, state, WITHIN)
    if (
        old.may_goto == state.may_goto
        and old.unroll == state.unroll
        and equal(walk, old, state, EXACT)
        and not _depths_differ(old, state)
    ):
        walk.reject(
            Category.PROGRAM_STRUCTURE,
            f"infinite loop detected at insn {pc}",
            why="the same state comes back: nothing ends the loop",
        )
    return False


def _active(walk: Walk) -> bool:
    reg = walk.regs[1]
    slot = walk.state.frames[reg.what].stack.get(reg.off >> 3, EMPTY)
    return slot.reg is not None and slot.reg.what[1] == "active"


def _depths_differ(old: State, new: State) -> bool:
    """Iterators that went on are no endless loop."""
    return _depths(old) != _depths(new)


def _depths(state: State) -> list[int]:
    return [
        slot.reg.size
        for frame in state.frames
        for slot in frame.stack.values()
        if slot.kinds[0] == ITER_SLOT and slot.reg is not None and slot.reg.what is not None
    ]


# ---- comparing ----------------------------------------------------------------------------------


class _Ids:
    """Which number of the old state is which of the new one."""

    __slots__ = ("back", "forth", "temporary")

    def __init__(self) -> None:
        self.forth: dict[int, int] = {}
        self.back: dict[int, int] = {}
        self.temporary = -1

    def same(self, old: int, new: int) -> bool:
        if not old or not new:
            return old == new
        if old in self.forth:
            return self.forth[old] == new
        if new in self.back:
            return False
        self.forth[old] = new
        self.back[new] = old
        return True

    def number(self, old: int, new: int) -> bool:
        """The same for numbers: one that is linked to nothing may become linked."""
        if not old:
            return True
        if not new:
            self.temporary -= 1
            new = self.temporary
        return self.same(old, new)


def equal(walk: Walk, old: State, new: State, how: int) -> bool:
    """Whether what holds for `old` holds for `new`."""
    if len(old.frames) != len(new.frames):
        return False
    ids = _Ids()
    if not _same_refs(old, new, ids):
        return False
    last = len(old.frames) - 1
    for number, (one, other) in enumerate(zip(old.frames, new.frames, strict=True)):
        if one.callsite != other.callsite or one.unrolled > other.unrolled:
            return False
        pc = walk.pc if number == last else new.frames[number + 1].callsite
        live = walk.flow.live[pc]
        if number != last:
            # the call's arguments are gone; what it reads is not read again
            live = walk.flow.live[pc + 1] & 0x3C0 if pc not in walk.flow.calls_back else live
        if not _same_frame(walk, one, other, live, ids, how):
            return False
    return True


def _same_refs(old: State, new: State, ids: _Ids) -> bool:
    if old.rcu != new.rcu or old.preempt != new.preempt or len(old.refs) != len(new.refs):
        return False
    return all(
        one.kind == other.kind
        and ids.same(one.id, other.id)
        and (one.kind in ("ptr", "irq") or one.what is other.what or one.what == other.what)
        for one, other in zip(old.refs, new.refs, strict=True)
    )


def _same_frame(  # two frames and how
    walk: Walk, old: Frame, new: Frame, live: int, ids: _Ids, how: int
) -> bool:
    if old.callback != new.callback:
        return False
    for number in range(10):
        if live >> number & 1 and not _same(walk, old.regs[number], new.regs[number], ids, how):
            return False
    return all(
        _same_slot(walk, slot, new.stack.get(key, EMPTY), ids, how)
        for key, slot in _slots(old, new, how)
    )


def _slots(old: Frame, new: Frame, how: int) -> Iterator[tuple[int, Slot]]:
    yield from old.stack.items()
    if how == EXACT:
        yield from ((key, EMPTY) for key in new.stack if key not in old.stack)


def _same(walk: Walk, old: Reg, new: Reg, ids: _Ids, how: int) -> bool:
    """regsafe(): what was safe with `old` is with `new`."""
    if old is new and not old.id and not old.ref:
        return True
    if not old.type:
        return how != EXACT or not new.type
    if old.type != new.type or (old.type != SCALAR and old.flags != new.flags):
        return False
    if how == EXACT:
        return _identical(old, new, ids)
    if old.type == SCALAR:
        if old.id and ((old.delta is None) != (new.delta is None) or old.delta != new.delta):
            return False
        assert old.num is not None
        assert new.num is not None
        return ids.number(old.id, new.id) and walk.domain.covers(old.num, new.num)
    if old.type in r.PACKETS:
        if old.range > new.range:
            return False
        if (
            old.range < 0
            and old.range != new.range
            and rules_of(walk.subject.profile).compares_ends
        ):
            return False
        return (
            ids.same(old.id, new.id) and _same_start(walk, old, new) and _same_place(walk, old, new)
        )
    if old.type in _RANGED:
        return (
            ids.same(old.id, new.id)
            and ids.same(old.ref, new.ref)
            and old.what is new.what
            and old.size == new.size
            and _same_place(walk, old, new)
        )
    if old.type == r.ARENA:
        return True
    return _identical(old, new, ids)


def _same_start(walk: Walk, old: Reg, new: Reg) -> bool:
    """Pointers of one id keep their distances, since 7.0: where their offsets start must agree."""
    if walk.release < (7, 0) or not old.id or old.num is None or new.num is None:
        return True
    one, other = old.num.wide, new.num.wide
    return isinstance(one, Arc) and isinstance(other, Arc) and one.base == other.base


def _same_place(walk: Walk, old: Reg, new: Reg) -> bool:
    if old.num is None and new.num is None:
        return old.off == new.off
    if old.num is None or new.num is None or old.off != new.off:
        return False
    return walk.domain.covers(old.num, new.num)


def _identical(old: Reg, new: Reg, ids: _Ids) -> bool:
    return (
        old.num == new.num
        and old.off == new.off
        and old.size == new.size
        and old.range == new.range
        and old.delta == new.delta
        and (old.what is new.what or old.what == new.what)
        and ids.same(old.id, new.id)
        and ids.same(old.ref, new.ref)
    )


def _same_slot(walk: Walk, old: Slot, new: Slot, ids: _Ids, how: int) -> bool:
    """stacksafe(): bytes that nobody wrote, and any number, are all the same to our loaders."""
    if old is new and (old.reg is None or not (old.reg.id or old.reg.ref)):
        return True
    if how == EXACT and old.kinds != new.kinds:
        return False
    if old.kinds[0] in (ITER_SLOT, IRQ_SLOT, DYNPTR_SLOT):
        return _same_object(old, new, ids)
    if old.kinds == new.kinds and old.reg is not None and new.reg is not None:
        return _same(walk, old.reg, new.reg, ids, how)
    if all(kind in (INVALID, MISC) for kind in old.kinds):
        return not _holds_pointer(new) or how == EXACT
    if old.kinds[0] == SPILL and old.reg is not None and old.reg.type == SCALAR:
        return _spill_covers(walk, old, new, ids)
    if SPILL in old.kinds:
        return False
    return all(
        one in (INVALID, MISC) or one == other or (one == ZERO and _zero(new))
        for one, other in zip(old.kinds, new.kinds, strict=True)
    )


def _holds_pointer(slot: Slot) -> bool:
    return slot.kinds[0] in (ITER_SLOT, IRQ_SLOT, DYNPTR_SLOT)


def _zero(slot: Slot) -> bool:
    return slot.reg is not None and slot.reg.const == 0


def _spill_covers(walk: Walk, old: Slot, new: Slot, ids: _Ids) -> bool:
    """A number that was spilled, against bytes."""
    assert old.reg is not None
    if new.reg is None and all(kind in (INVALID, MISC) for kind in new.kinds):
        return old.kinds == SPILL * 8 and _same(
            walk, old.reg, scalar(walk.domain.unknown), ids, WITHIN
        )
    return False


def _same_object(old: Slot, new: Slot, ids: _Ids) -> bool:
    if old.kinds != new.kinds:
        return False
    if old.reg is None or new.reg is None:
        return old.reg is new.reg
    return old.reg.what == new.reg.what and ids.same(old.reg.ref, new.reg.ref)
