# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What to try in order to shrink what is declared around a program: callback, types, maps.

Owns the candidates; what nothing refers to is gone without asking (harness.bpf.asmtext.needed).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.bpf.asmtext import needed
from harness.bpf.declared import Declarations, Map, Prototype, Struct, looked_after, size_of
from harness.minimize_draft import Draft, unit_from

if TYPE_CHECKING:
    from harness.minimize import Search

_SIZES = (1, 4, 8)


def declarations(search: "Search") -> None:
    """Try one thing after the other until nothing is left to take away."""
    while search.any_of(_candidates(search.best)):
        pass


def _candidates(draft: Draft) -> Iterator[Draft]:
    if draft.callback:
        yield replace(draft, callback="").pruned()
    yield from _linkages(draft)
    unit = unit_from(draft)
    if unit is None:
        return
    declared = needed(unit)
    for change in (_prototypes, _maps, _sections, _structs, _externs):
        yield from (replace(draft, declared=other) for other in change(declared, draft))


def _linkages(draft: Draft) -> Iterator[Draft]:
    for at, body in enumerate(draft.bodies):
        if at and body.linkage == "global" and body.name != draft.callback:
            bodies = list(draft.bodies)
            bodies[at] = replace(body, linkage="static")
            yield replace(draft, bodies=tuple(bodies))


def _prototypes(declared: Declarations, draft: Draft) -> Iterator[Declarations]:
    for at, body in enumerate(draft.bodies):
        found = declared.prototypes.get(body.name)
        if found is None:
            continue
        # without one: what writebtf takes for granted
        others = {k: p for k, p in declared.prototypes.items() if k != body.name}
        yield replace(declared, prototypes=others)
        plainer = Prototype("int()" if at == 0 or body.linkage == "static" else "int(u64)")
        for made in (replace(plainer, tags=found.tags), replace(found, tags=()),
                     replace(found, argument_tags=())):  # fmt: skip
            if made != found and _length(made) < _length(found):
                yield replace(declared, prototypes=declared.prototypes | {body.name: made})


def _length(prototype: Prototype) -> int:
    return len(prototype.type) + len(str(prototype.tags)) + len(str(prototype.argument_tags))


def _maps(declared: Declarations, _draft: Draft) -> Iterator[Declarations]:
    for name, each in declared.maps.items():
        for other in _plainer_maps(each, declared):
            yield replace(declared, maps=declared.maps | {name: other})


def _plainer_maps(each: Map, declared: Declarations) -> Iterator[Map]:
    size = _bytes(each.value, declared)
    yield from (replace(each, value=str(n)) for n in _SIZES if n < size)
    if size and not each.value.isdecimal():
        yield replace(each, value=str(size))
    # what has to be looked after needs types of both
    if each.key and not each.key.isdecimal() and not looked_after(each.value, declared):
        yield replace(each, key=str(_bytes(each.key, declared)))
    if each.flags:
        yield replace(each, flags=0)
    if each.entries > 1:
        yield replace(each, entries=1)


def _bytes(text: str, declared: Declarations) -> int:
    return int(text) if text.isdecimal() else size_of(text, declared)


def _sections(declared: Declarations, _draft: Draft) -> Iterator[Declarations]:
    for name, section in declared.sections.items():
        if any(section.data):
            other = replace(section, data=bytes(len(section.data)))
            yield replace(declared, sections=declared.sections | {name: other})
        least = max((variable.offset + 1 for variable in section.variables), default=0)
        for size in _SIZES:
            if least <= size < len(section.data):
                other = replace(section, data=section.data[:size])
                yield replace(declared, sections=declared.sections | {name: other})
        for variable in section.variables:
            kept = tuple(v for v in section.variables if v != variable)
            other = replace(section, variables=kept)
            yield replace(declared, sections=declared.sections | {name: other})


def _structs(declared: Declarations, _draft: Draft) -> Iterator[Declarations]:
    for name, struct in declared.structs.items():
        # its name may be enough
        yield replace(declared, structs={k: s for k, s in declared.structs.items() if k != name})
        for other in _plainer_structs(struct):
            yield replace(declared, structs=declared.structs | {name: other})


def _plainer_structs(struct: Struct) -> Iterator[Struct]:
    if struct.members:
        yield replace(struct, members=())
    for member in struct.members:
        yield replace(struct, members=tuple(m for m in struct.members if m != member))
        if member.tags:
            bare = replace(member, tags=())
            yield replace(struct, members=tuple(bare if m == member else m for m in struct.members))


def _externs(declared: Declarations, _draft: Draft) -> Iterator[Declarations]:
    for name, extern in declared.externs.items():
        if extern.weak:
            other = replace(extern, weak=False)
            yield replace(declared, externs=declared.externs | {name: other})
