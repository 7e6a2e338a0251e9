# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BTF records from types as text (harness.bpf.declared): each type once, numbered as it comes.

Owns the records (Documentation/bpf/btf.rst) and the string section. Which types an object needs is
harness.bpf.writebtf's business.
"""

import struct

from harness.bpf.btf import Kind
from harness.bpf.declared import Declarations, Struct, words
from harness.errors import UsageError

# name -> C's name, bytes, encoding (signed 1, char 2, bool 4)
_INTS = {
    "int": ("int", 4, 1), "s32": ("int", 4, 1), "u32": ("unsigned int", 4, 0),
    "u64": ("unsigned long long", 8, 0), "s64": ("long long", 8, 1),
    "u16": ("unsigned short", 2, 0), "s16": ("short", 2, 1),
    "u8": ("unsigned char", 1, 0), "s8": ("signed char", 1, 1),
    "char": ("char", 1, 1), "bool": ("_Bool", 1, 4),
}  # fmt: skip
_NAMED = {"struct": Kind.STRUCT, "union": Kind.UNION, "enum": Kind.ENUM, "typedef": Kind.TYPEDEF}


class Strings:
    """The string section while it grows."""

    def __init__(self) -> None:
        self.data = b"\0"
        self._known: dict[str, int] = {"": 0}

    def at(self, text: str) -> int:
        """Offset of a string, which is added where it is new."""
        if text not in self._known:
            self._known[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._known[text]


class Types:
    """The type section while it grows; numbers start at 1."""

    def __init__(self, declared: Declarations) -> None:
        self.strings = Strings()
        self._declared = declared
        self._records: list[bytes] = []
        self._known: dict[str, int] = {"void": 0}

    def data(self) -> bytes:
        """The whole section."""
        return b"".join(self._records)

    def add(self, name: str, kind: Kind, count: int, size_or_type: int, tail: bytes = b"") -> int:
        """Append a record; its number."""
        info = kind << 24 | count
        self._records.append(struct.pack("<III", self.strings.at(name), info, size_or_type) + tail)
        return len(self._records)

    def tag(self, text: str, type_id: int, component: int = -1) -> None:
        """Put a declaration tag on a record, one of its members or arguments."""
        self.add(text, Kind.DECL_TAG, 0, type_id, struct.pack("<i", component))

    def number(self, text: str) -> int:
        """The number of a type. Raises UsageError for text that is none."""
        try:
            found = words(text)
        except ValueError as error:
            raise UsageError(f"{text!r}: {str(error)[:20]!r} is no part of a type") from None
        reader = _Reader(self, found, text)
        number = reader.whole()
        if reader.left:
            raise UsageError(f"{text!r}: {reader.left[0]!r} is no part of a type")
        return number

    def pointer_to_array(self, count: int) -> int:
        """`int (*)[count]`: how a map's definition says a number."""
        of, by = self.number("int"), self.number("u32")
        array = self.once(f"[{count}]", Kind.ARRAY, 0, struct.pack("<III", of, by, count))
        return self.once(f"* {array}", Kind.PTR, array)

    def once(
        self, known_as: str, kind: Kind, size_or_type: int, tail: bytes = b"", *,
        name: str = "", count: int = 0,
    ) -> int:  # fmt: skip
        """The record of that key, which is appended where it is new."""
        if known_as not in self._known:
            self._known[known_as] = self.add(name, kind, count, size_or_type, tail)
        return self._known[known_as]

    def named(self, kind: str, name: str) -> int:
        """`struct NAME` and its like: with the members that were declared, else none."""
        known_as = f"{kind} {name}"
        if known_as not in self._known:
            found = self._declared.structs.get(known_as)
            if kind in ("struct", "union"):
                # its number is taken before those of its members, which may point to it
                self._known[known_as] = self.add(name, _NAMED[kind], 0, 0)
                if found is not None:
                    self._fill(self._known[known_as], found)
            elif kind == "enum":
                self._known[known_as] = self.add(name, Kind.ENUM, 0, 4)
            else:
                self._known[known_as] = self.add(name, Kind.TYPEDEF, 0, self.number("u64"))
        return self._known[known_as]

    def _fill(self, number: int, found: Struct) -> None:
        rows = b"".join(
            struct.pack("<III", self.strings.at(m.name), self.number(m.type), m.offset * 8)
            for m in found.members
        )
        info = _NAMED[found.kind] << 24 | len(found.members)
        head = struct.pack("<III", self.strings.at(found.name), info, found.size_bytes)
        self._records[number - 1] = head + rows
        for text in found.tags:
            self.tag(text, number)
        for index, member in enumerate(found.members):
            for text in member.tags:
                self.tag(text, number, index)

    def function(self, returns: int, arguments: list[int]) -> int:
        """A prototype; arguments are named a1, a2, ..., as a kernel wants some name."""
        names = [self.strings.at(f"a{i}" if each else "") for i, each in enumerate(arguments, 1)]
        tail = b"".join(struct.pack("<II", *pair) for pair in zip(names, arguments, strict=True))
        known_as = f"{returns}({arguments})"
        return self.once(known_as, Kind.FUNC_PROTO, returns, tail, count=len(arguments))


class _Reader:
    """One type's words, read from the left."""

    def __init__(self, types: Types, found: list[str], text: str) -> None:
        self._types = types
        self.left = found
        self._text = text

    def _next(self, what: str) -> str:
        if not self.left:
            raise UsageError(f"{self._text!r}: expected {what}")
        return self.left.pop(0)

    def whole(self) -> int:
        word = self._next("a type")
        types = self._types
        if word in _INTS:
            name, size, encoding = _INTS[word]
            tail = struct.pack("<I", encoding << 24 | size * 8)
            number = types.once(name, Kind.INT, size, tail, name=name)
        elif word in _NAMED:
            number = types.named(word, self._next("a name"))
        elif word == "void":
            number = 0
        else:
            raise UsageError(f"{self._text!r}: {word!r} is no type")
        while self.left and (self.left[0] in ("*", "[", "(") or self.left[0].startswith("__")):
            number = self._behind(self.left.pop(0), number)
        return number

    def _behind(self, word: str, number: int) -> int:
        types = self._types
        if word == "*":
            return types.once(f"* {number}", Kind.PTR, number)
        if word == "[":
            count = self._next("a number")
            if not count.isdecimal() or self._next("']'") != "]":
                raise UsageError(f"{self._text!r}: expected a number in brackets")
            by = types.number("u32")
            tail = struct.pack("<III", number, by, int(count))
            return types.once(f"{number}[{count}]", Kind.ARRAY, 0, tail)
        if word == "(":
            return types.function(number, self._arguments())
        tag = word.removeprefix("__")
        return types.once(f"__{tag} {number}", Kind.TYPE_TAG, number, name=tag)

    def _arguments(self) -> list[int]:
        found: list[int] = []
        if self.left[:1] == [")"]:
            self.left.pop(0)
            return found
        while True:
            found.append(self.whole())
            word = self._next("',' or ')'")
            if word == ")":
                return found
            if word != ",":
                raise UsageError(f"{self._text!r}: expected ',' or ')', not {word!r}")
