# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What assembler text declares around the instructions: types, maps, globals, kernel functions.

Owns these directives, one a line, and their mistakes; what they mean is harness.bpf.declared's:

    .license GPL
    .struct elem 8                      # members follow: byte, type, name
    .member 0 int count
    .member 4 struct bpf_spin_lock lock
    .map locks array key u32 value struct elem entries 1
    .globals .rodata 4 01000000         # a section of globals: bytes, content (else zeros)
    .variable 0 struct bpf_spin_lock lock
    .extern struct task_struct * bpf_task_acquire(struct task_struct *)
    .tag contains:node:link             # declaration tag of what the line before declared
    .argument 1 arg:nonnull             # the same of an argument of the function before
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from harness.bpf.asm_words import NAME, NUMBER, Where, Word, split
from harness.bpf.declared import (
    Declarations,
    Extern,
    Globals,
    Map,
    Member,
    Prototype,
    Struct,
    key,
)
from harness.bpf.mapdef import MapType

_TYPES = {kind.name.lower(): kind.value for kind in MapType}
_NAMED = ("struct", "union", "enum", "typedef")
_ARGUMENTS = frozenset(map(str, range(1, 13)))
# attributes of a map, as harness.bpf.declared.Map names them
_CONTENTS = ("key", "value")
_NUMBERS = ("entries", "flags", "extra")
_MAX_BYTES = 1 << 20
# bits of a type are counted in 32 bits
_MOST, _MOST_32 = (1 << 29) - 1, (1 << 32) - 1
_MAX_MEMBERS = 1 << 14
# of arguments that are functions with arguments
_DEEPEST = 8
# the rest of the line is text, not words
_TEXTS = re.compile(r"\s*(\.section|\.license|\.tag|\.argument|\.globals)(?![\w.$])(.*)$")
_COMMENT = re.compile(r"\s*(?:;|(?:^|\s)//|(?:^|\s)#).*$")


@dataclass(slots=True)
class Declaring:
    """What the lines declared so far."""

    license: str = "GPL"
    structs: dict[str, Struct] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    inner: dict[str, Map] = field(default_factory=dict)
    sections: dict[str, Globals] = field(default_factory=dict)
    externs: dict[str, Extern] = field(default_factory=dict)
    prototypes: dict[str, Prototype] = field(default_factory=dict)
    # puts a tag on what the last line declared
    tagging: Callable[[str], None] | None = None
    # name of the last struct or section; of the last function
    last: str = ""
    function: str = ""

    def finished(self) -> Declarations:
        """All of it."""
        return Declarations(
            self.license, self.structs, self.maps, self.inner, self.sections, self.externs,
            self.prototypes,
        )  # fmt: skip


def text_directive(line: str) -> tuple[str, str] | None:
    """(directive, the rest of the line) of a line whose rest is not read as words."""
    found = _TEXTS.match(line)
    return (found[1], _COMMENT.sub("", found[2]).strip()) if found else None


def take_type(where: Where, words: list[Word], what: str = "a type", depth: int = 0) -> str:
    """Take the words of one type away from the front; the type as text."""
    if depth > _DEEPEST:
        raise where.mistake(words[0].column if words else 1, "functions of functions: too deep")
    if not words or words[0].kind != NAME:
        column = words[0].column if words else len(where.text) + 1
        raise where.mistake(column, f"expected {what}")
    text = words.pop(0).text
    if text in _NAMED:
        if not words or words[0].kind != NAME:
            raise where.mistake(len(where.text) + 1, f"expected the name of a {text}")
        text += f" {words.pop(0).text}"
    while words:
        word = words[0].text
        if word == "*" or (word.startswith("__") and _points(words)):
            text += f" {words.pop(0).text}"
        elif word == "[":
            words.pop(0)
            text += f"[{_number(where, words, 'how many there are')}]"
            _take(where, words, "]", "']'")
        elif word == "(":
            text += _arguments(where, words, depth)
        else:
            break
    return text


# A type tag stands in front of a star; a name that begins so does not.
def _points(words: list[Word]) -> bool:
    after = next((w.text for w in words if not w.text.startswith("__")), "")
    return after == "*"


def _arguments(where: Where, words: list[Word], depth: int = 0) -> str:
    words.pop(0)
    found: list[str] = []
    while words and words[0].text != ")":
        found.append(take_type(where, words, depth=depth + 1))
        if words and words[0].text == ",":
            words.pop(0)
        elif not words or words[0].text != ")":
            column = words[0].column if words else len(where.text) + 1
            raise where.mistake(column, "expected ',' or ')'")
    if not words:
        raise where.mistake(len(where.text) + 1, "expected ')'")
    words.pop(0)
    return f"({', '.join(found)})"


def _take(where: Where, words: list[Word], kind: str, what: str) -> Word:
    if not words or words[0].kind != kind:
        column = words[0].column if words else len(where.text) + 1
        raise where.mistake(column, f"expected {what}")
    return words.pop(0)


def _number(where: Where, words: list[Word], what: str, most: int = _MOST) -> int:
    word = _take(where, words, NUMBER, what)
    if not 0 <= word.value <= most:
        raise where.mistake(word.column, f"{word.text} is not between 0 and {most}")
    return word.value


def _end(where: Where, words: list[Word]) -> None:
    if words:
        raise where.mistake(words[0].column, f"did not expect {words[0].text!r}")


def _new(where: Where, name: Word, known: dict[str, object]) -> str:
    if name.text in known:
        raise where.mistake(name.column, f"{name.text!r} is there already")
    return name.text


# ---- one directive each -------------------------------------------------------------------------


def _composite(kind: str) -> Callable[[Declaring, Where, list[Word]], None]:
    def declare(found: Declaring, where: Where, words: list[Word]) -> None:
        name = _take(where, words, NAME, f"the name of the {kind}")
        size = _number(where, words, "its size in bytes")
        _end(where, words)
        found.last = known_as = key(kind, name.text)
        if known_as in found.structs:
            raise where.mistake(name.column, f"{known_as} is there already")
        found.structs[known_as] = Struct(kind, name.text, size)

        def tag(text: str) -> None:
            made = found.structs[known_as]
            found.structs[known_as] = replace(made, tags=(*made.tags, text))

        found.tagging = tag

    return declare


def _placed(where: Where, words: list[Word]) -> Member:
    offset = _number(where, words, "a byte")
    text = take_type(where, words)
    name = _take(where, words, NAME, "a name").text if words else ""
    _end(where, words)
    return Member(offset, text, name)


def _member(found: Declaring, where: Where, words: list[Word]) -> None:
    known_as = found.last
    if known_as not in found.structs:
        raise where.mistake(1, "there is no .struct or .union before this member")
    made = found.structs[known_as]
    if len(made.members) >= _MAX_MEMBERS:
        raise where.mistake(1, f"more than {_MAX_MEMBERS} members")
    found.structs[known_as] = replace(made, members=(*made.members, _placed(where, words)))

    def tag(text: str) -> None:
        made = found.structs[known_as]
        *before, last = made.members
        last = replace(last, tags=(*last.tags, text))
        found.structs[known_as] = replace(made, members=(*before, last))

    found.tagging = tag


def _variable(found: Declaring, where: Where, words: list[Word]) -> None:
    section = found.last
    if section not in found.sections:
        raise where.mistake(1, "there is no .globals before this variable")
    made, variable = found.sections[section], _placed(where, words)
    if variable.offset >= len(made.data):
        raise where.mistake(1, f"byte {variable.offset} is not in {section}")
    found.sections[section] = replace(made, variables=(*made.variables, variable))

    def tag(text: str) -> None:
        made = found.sections[section]
        *before, last = made.variables
        last = replace(last, tags=(*last.tags, text))
        found.sections[section] = replace(made, variables=(*before, last))

    found.tagging = tag


def _map(inner: bool) -> Callable[[Declaring, Where, list[Word]], None]:  # of a table
    def declare(found: Declaring, where: Where, words: list[Word]) -> None:
        known = found.inner if inner else found.maps
        name = _new(where, _take(where, words, NAME, "the name of the map"), dict(known))
        kind = _take(where, words, NAME, "a type of map, such as array")
        if kind.text not in _TYPES:
            raise where.mistake(kind.column, f"no type of map {kind.text!r}: {', '.join(_TYPES)}")
        made = Map(name, _TYPES[kind.text])
        while words:
            made = _attribute(made, where, words)
        known[name] = made
        found.tagging = None

    return declare


def _attribute(made: Map, where: Where, words: list[Word]) -> Map:
    word = words.pop(0)
    value: Any
    if word.text in _CONTENTS:
        sized = words and words[0].kind == NUMBER
        size = str(_number(where, words, "a size")) if sized else ""
        value = size or take_type(where, words, "a type or a size")
    elif word.text in _NUMBERS:
        value = _number(where, words, "a number", _MOST_32)
    elif word.text == "of":
        value = _take(where, words, NAME, "the name of an .inner").text
    else:
        known = ", ".join((*_CONTENTS, *_NUMBERS, "of"))
        raise where.mistake(word.column, f"expected one of {known}, not {word.text!r}")
    changes = {word.text: value}
    return replace(made, **changes)


def _extern(found: Declaring, where: Where, words: list[Word]) -> None:
    weak = bool(words) and words[0].text == "weak"
    if weak:
        words.pop(0)
    text = take_type(where, words)
    name = _new(where, _take(where, words, NAME, "a name"), dict(found.externs))
    if words and words[0].text == "(":
        text += _arguments(where, words)
    _end(where, words)
    found.externs[name] = Extern(name, text, weak)
    found.tagging = None


def _globals(found: Declaring, where: Where, text: str) -> None:
    name, size, content = ([*text.split(None, 2), "", "", ""])[:3]
    column = where.text.find(text) + 1
    if not name.startswith((".data", ".rodata", ".bss")):
        raise where.mistake(column, "expected a section: .data, .rodata, .bss, or .data.NAME")
    if not size.isdecimal() or not 0 < int(size) <= _MAX_BYTES:
        raise where.mistake(column, f"expected its size: 1 to {_MAX_BYTES} bytes")
    try:
        data = bytes.fromhex(content)
    except ValueError:
        raise where.mistake(column, f"{content[:20]!r} is not hexadecimal") from None
    if len(data) > int(size):
        raise where.mistake(column, f"{len(data)} bytes of content in a section of {size}")
    if name in found.sections:
        raise where.mistake(column, f"{name!r} is there already")
    found.sections[name] = Globals(name, data.ljust(int(size), b"\0"))
    found.last, found.tagging = name, None


def _license(found: Declaring, where: Where, text: str) -> None:
    if not text:
        raise where.mistake(len(where.text) + 1, "expected a licence")
    found.license = text


def _tag(found: Declaring, where: Where, text: str) -> None:
    if found.tagging is None or not text:
        raise where.mistake(1, "a tag needs text, and a struct, member, variable or .func before")
    found.tagging(text)


def _argument(found: Declaring, where: Where, text: str) -> None:
    number, _, tag = text.partition(" ")
    made = found.prototypes.get(found.function)
    if made is None or number not in _ARGUMENTS or not tag.strip():
        raise where.mistake(
            1, "expected `.argument NUMBER TEXT`, behind a .func that has a prototype"
        )
    tags = (*made.argument_tags, (int(number) - 1, tag.strip()))
    found.prototypes[found.function] = replace(made, argument_tags=tags)


def function(found: Declaring, where: Where, name: str, words: list[Word]) -> None:
    """What stands behind name and linkage of a .func: nothing, or the function's type."""
    found.function = name
    if words:
        found.prototypes[name] = Prototype(take_type(where, words, "a prototype: int(u64)"))
        _end(where, words)

    def tag(text: str) -> None:
        made = found.prototypes.get(name, Prototype("int()"))
        found.prototypes[name] = replace(made, tags=(*made.tags, text))

    found.tagging = tag


_WORDS = {
    ".struct": _composite("struct"), ".union": _composite("union"), ".member": _member,
    ".variable": _variable, ".map": _map(inner=False), ".inner": _map(inner=True),
    ".extern": _extern,
}  # fmt: skip
_TEXT = {".globals": _globals, ".license": _license, ".tag": _tag, ".argument": _argument}
DIRECTIVES = (*_WORDS, *_TEXT)


def declare(found: Declaring, where: Where, directive: str, rest: str | None) -> None:
    """Read one directive; `rest`: of the line, where it is not to be read as words."""
    if rest is not None:
        _TEXT[directive](found, where, rest)
    else:
        _WORDS[directive](found, where, split(where)[1:])
