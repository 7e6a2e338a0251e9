# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a program needs around its instructions: types, maps, globals, names of the kernel.

Data only: what assembler text declares (harness.bpf.asm_declare), what an object file gets of it
(harness.bpf.writeelf, writebtf), and what is read out of a compiled object (harness.bpf.declare).

A type is text, read from left to right: a base (`void`, `u8` to `s64`, `int`, `bool`, `char`,
`struct NAME`, `union NAME`, `enum NAME`, `typedef NAME`), then any of `*`, `[N]`, `(TYPE, ...)`
for a function that returns what stands before, and `__TAG` for a type tag such as `__kptr`.
"""

import re
from dataclasses import dataclass, field, replace

_WORDS = re.compile(r"\s*([A-Za-z_][\w.]*|\d+|[*\[\]\(\),])")
_NAMED = re.compile(r"\b(struct|union) ([A-Za-z_][\w.]*)(?!\s*(?:__\w+ )*\*)")
_ANY_NAMED = re.compile(r"\b(struct|union) ([A-Za-z_][\w.]*)")
# members that a kernel looks after: where they stand has to be told
# structs in structs: a kernel looks no deeper
_DEEPEST = 16
_LOOKED_AFTER = re.compile(r"\bstruct bpf_\w+|\b__\w+ \*")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a struct or union, or one variable of a section of globals."""

    # bytes
    offset: int
    type: str
    name: str
    # declaration tags
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct or union. One that is named but not declared has no members and no size."""

    # "struct" or "union"
    kind: str
    name: str
    size_bytes: int
    members: tuple[Member, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Map:
    """One map: attributes of its definition. `key` and `value`: a type, or a number of bytes."""

    name: str
    # of enum bpf_map_type
    type: int
    key: str = ""
    value: str = ""
    entries: int = 0
    flags: int = 0
    extra: int = 0
    # name of the definition that its values have: one of Declarations.inner
    of: str = ""


@dataclass(frozen=True, slots=True)
class Globals:
    """One section of globals; variables are only those whose place the kernel must know."""

    name: str
    data: bytes
    variables: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class Extern:
    """A kernel function (its type ends in parentheses) or a kernel variable."""

    name: str
    type: str
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Prototype:
    """What BTF says of a function beside its name and linkage."""

    type: str
    tags: tuple[str, ...] = ()
    # (number of the argument, tag)
    argument_tags: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Declarations:
    """Everything that is declared around one program, by name, in the order of the text."""

    license: str = "GPL"
    structs: dict[str, Struct] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    # definitions of inner maps, which are no maps themselves
    inner: dict[str, Map] = field(default_factory=dict)
    sections: dict[str, Globals] = field(default_factory=dict)
    externs: dict[str, Extern] = field(default_factory=dict)
    prototypes: dict[str, Prototype] = field(default_factory=dict)


NOTHING = Declarations()


def words(text: str) -> list[str]:
    """The words of a type. ValueError with what cannot be read."""
    found, at, text = [], 0, text.rstrip()
    while at < len(text):
        word = _WORDS.match(text, at)
        if word is None:
            raise ValueError(text[at:].strip())
        found.append(word[1])
        at = word.end()
    return found


def key(kind: str, name: str) -> str:
    """How Declarations.structs names a struct or union."""
    return f"{kind} {name}"


def keep(
    declared: Declarations, maps: set[str], sections: set[str], externs: set[str],
    functions: set[str], structs: set[str],
) -> Declarations:  # fmt: skip
    """Only what these need, which a program refers to."""
    kept_maps = {name: each for name, each in declared.maps.items() if name in maps}
    inner = {name: declared.inner[name] for name in {m.of for m in kept_maps.values() if m.of}}
    kept = replace(
        declared,
        maps=kept_maps,
        inner=dict(sorted(inner.items())),
        sections={n: _bare(g, declared) for n, g in declared.sections.items() if n in sections},
        externs={n: e for n, e in declared.externs.items() if n in externs},
        prototypes={n: p for n, p in declared.prototypes.items() if n in functions},
    )
    wanted = _reached(declared, [*_types(kept), *structs])
    return replace(kept, structs={n: s for n, s in declared.structs.items() if n in wanted})


def _bare(section: Globals, declared: Declarations) -> Globals:
    """Without the variables that are plain numbers: no verifier asks for their names."""
    kept = tuple(v for v in section.variables if v.tags or looked_after(v.type, declared))
    return replace(section, variables=kept)


def looked_after(text: str, declared: Declarations, depth: int = 0) -> bool:
    """Whether a value of this type has members that the kernel looks after (locks, timers...)."""
    if depth > _DEEPEST or _LOOKED_AFTER.search(text):
        return True
    inside = (declared.structs.get(f"{k} {n}") for k, n in _NAMED.findall(text))
    members = [m for each in inside if each is not None for m in each.members]
    return any(m.tags or looked_after(m.type, declared, depth + 1) for m in members)


def _types(kept: Declarations) -> list[str]:
    found = [t for m in (*kept.maps.values(), *kept.inner.values()) for t in (m.key, m.value)]
    found += [v.type for section in kept.sections.values() for v in section.variables]
    found += [extern.type for extern in kept.externs.values()]
    return found + [prototype.type for prototype in kept.prototypes.values()]


def _reached(declared: Declarations, types: list[str]) -> set[str]:
    wanted: set[str] = set()
    while types:
        for kind, name in _ANY_NAMED.findall(types.pop()):
            found = declared.structs.get(f"{kind} {name}")
            if found is not None and f"{kind} {name}" not in wanted:
                wanted.add(f"{kind} {name}")
                types += [member.type for member in found.members]
                types += [f"struct {tag.split(':')[1]}" for member in found.members
                          for tag in member.tags if tag.startswith("contains:")]  # fmt: skip
    return wanted


_BYTES = {"int": 4, "char": 1, "bool": 1, "enum": 4, "typedef": 8}
_INTEGER = re.compile(r"[us](8|16|32|64)$")
_LAST_ARRAY = re.compile(r"(.*)\[(\d+)\]$")


def size_of(text: str, declared: Declarations) -> int:
    """Bytes of a type; 0 for what has no size."""
    if text.endswith("*"):
        return 8
    if array := _LAST_ARRAY.match(text):
        return size_of(array[1].strip(), declared) * int(array[2])
    if text in declared.structs:
        return declared.structs[text].size_bytes
    if integer := _INTEGER.match(text):
        return int(integer[1]) // 8
    return _BYTES.get(text.partition(" ")[0], 0)
