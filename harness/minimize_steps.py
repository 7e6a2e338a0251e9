# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What to try in order to shrink a program: the largest parts first, then ever smaller ones.

Owns the candidates, all of them deterministic and simpler than what they come from. Whether one is
still the same is harness.minimize's question.
"""

from collections.abc import Iterator
from dataclasses import replace

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.minimize import Search, Step
from harness.minimize_declared import declarations
from harness.minimize_draft import ZERO, Body, Draft, Item, zero

# pairs of instructions are many: in small programs only
_MOST_FOR_PAIRS = 24
_MOV_REGISTER = 0xBF
_STORE_REGISTER = {0x63: 0x62, 0x6B: 0x6A, 0x73: 0x72, 0x7B: 0x7A}
_CALLER_SAVED = frozenset(range(6))


def functions(search: Search) -> None:
    """Leave out functions: all at once, then one at a time, the largest first."""
    draft = search.best
    for body in draft.bodies[1:]:
        draft = draft.without_function(body.name)
    if search.better(draft):
        return
    for body in sorted(search.best.bodies[1:], key=lambda b: (-len(b.items), b.name)):
        search.better(search.best.without_function(body.name))


def blocks(search: Search) -> None:
    """Leave out instructions: half of them, a quarter, ... one by one, from the end."""
    size = max(1, search.best.size // 2)
    while True:
        end = search.best.size
        while end > 0:
            keys = [item.key for item in search.best.items]
            start = max(0, end - size)
            search.better(search.best.without(frozenset(keys[start:end])))
            end = start
        if size == 1:
            return
        size = max(1, size // 2)


def chains(search: Search) -> None:
    """Leave out an instruction together with those that use what it leaves in a register."""
    for key in [item.key for item in search.best.items]:
        search.any_of(search.best.without(keys) for keys in _chain(search.best, key))


def _chain(draft: Draft, key: int) -> Iterator[frozenset[int]]:
    for body in draft.bodies:
        at = next((i for i, item in enumerate(body.items) if item.key == key), None)
        if at is None:
            continue
        register = written(body.items[at].insn)
        if register is not None:
            found = frozenset([key, *_users(body.items[at + 1 :], {register})])
            if len(found) > 1:
                yield found


def _users(items: tuple[Item, ...], tainted: set[int]) -> Iterator[int]:
    """Of straight code: the keys of what reads one of these registers, and of what reads that."""
    for item in items:
        read = set(isa.registers_read(item.insn))
        if item.insn.is_call:
            read = set(range(1, 6))
            uses = bool(read & tainted)
            tainted -= _CALLER_SAVED
            if uses:
                tainted.add(0)
                yield item.key
            continue
        target = written(item.insn)
        if read & tainted:
            yield item.key
            if target is not None:
                tainted.add(target)
        else:
            tainted.discard(-1 if target is None else target)


def pairs(search: Search) -> None:
    """Leave out two instructions that may belong together: taking and giving back, say."""
    if search.best.size > _MOST_FOR_PAIRS:
        return
    found = True
    while found:
        keys = [item.key for item in search.best.items]
        both = ((one, other) for at, one in enumerate(keys) for other in keys[at + 2 :])
        found = search.any_of(search.best.without(frozenset(pair)) for pair in both)


def branches(search: Search) -> None:
    """Let a conditional jump be taken always. (Never: it is left out, as any instruction.)"""
    for item in [item for item in search.best.items if item.is_conditional]:
        always = replace(item, insn=Insn(isa.JA, 0, 0, 0, 0))
        search.better(search.best.with_items({item.key: always}))


def copies(search: Search) -> None:
    """Leave out a copy of a register: one of the two does all the work."""
    for item in [i for i in search.best.items if i.insn.code == _MOV_REGISTER and not i.insn.off]:
        pair = (item.insn.dst, item.insn.src)
        if 10 not in pair:
            search.any_of(_renamed(search.best, item.key, *names) for names in (pair, pair[::-1]))


def _renamed(draft: Draft, key: int, old: int, new: int) -> Draft:
    def change(body: Body) -> tuple[Item, ...]:
        if all(item.key != key for item in body.items):
            return body.items
        return tuple(
            replace(item, insn=renamed(item.insn, old, new))
            for item in body.items
            if item.key != key
        )

    return draft.mapped(change)


def renamed(insn: Insn, old: int, new: int) -> Insn:
    """The instruction with another register in the place of one."""
    dst, src = insn.cls is not Class.LD or insn.code == isa.LD_IMM64, False
    if insn.cls in (Class.ALU, Class.ALU64):
        src = insn.uses_register
    elif insn.cls in (Class.JMP, Class.JMP32):
        dst = insn.op in isa.JUMP_OPS
        src = dst and insn.uses_register
    elif insn.cls in (Class.LDX, Class.STX):
        src = True
    return replace(
        insn,
        dst=new if dst and insn.dst == old else insn.dst,
        src=new if src and insn.src == old else insn.src,
    )


def written(insn: Insn) -> int | None:
    """The register that the instruction leaves something in."""
    if insn.is_call:
        return 0
    if insn.cls in (Class.ALU, Class.ALU64, Class.LDX) or insn.code == isa.LD_IMM64:
        return insn.dst
    return 0 if insn.cls is Class.LD else None


def simpler(search: Search) -> None:
    """Put something simpler in the place of each instruction: 0 for what it leaves, 1, ..."""
    for key in [item.key for item in search.best.items]:
        while True:
            item = next((i for i in search.best.items if i.key == key), None)
            if item is None or not search.any_of(
                search.best.with_items({key: other}) for other in alternatives(item)
            ):
                break


def alternatives(item: Item) -> Iterator[Item]:
    """Simpler instructions, the simplest first; every chain of them ends."""
    insn = item.insn
    register = written(insn)
    nothing = register is not None and zero(item, register)
    if nothing and nothing.insn != insn and register != 10:
        yield nothing
    if insn.code in (ZERO.code, 0xB4) and insn.imm not in (0, 1):
        yield replace(item, insn=replace(insn, code=ZERO.code, imm=1))
    if item.is_conditional and not insn.uses_register:
        yield from (replace(item, insn=replace(insn, imm=n)) for n in (0, 1) if n < insn.imm)
    if insn.code in _STORE_REGISTER:
        yield replace(item, insn=replace(insn, code=_STORE_REGISTER[insn.code], src=0, imm=0))
    if insn.cls is Class.ST and insn.imm:
        yield replace(item, insn=replace(insn, imm=0))
    if insn.cls in (Class.LDX, Class.ST, Class.STX) and insn.off and _base(insn) != 10:
        yield replace(item, insn=replace(insn, off=0))


def _base(insn: Insn) -> int:
    return insn.src if insn.cls is Class.LDX else insn.dst


STEPS: dict[str, Step] = {
    "functions": functions,
    "blocks": blocks,
    "chains": chains,
    "branches": branches,
    "pairs": pairs,
    "copies": copies,
    "simpler": simpler,
    "declarations": declarations,
}
