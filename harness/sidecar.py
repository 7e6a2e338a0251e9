# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases of an object that cannot carry tags: a TOML file beside it, in the tags' own vocabulary.

Owns the file's form (docs/writing-cases.md has the table) and the errors for a file that is wrong,
with file, line and key. What a word claims is harness.tags'; which programs there are, and what
becomes of a case, is harness.suite's.
"""

import copy
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.errors import BpfthrowError, UsageError
from harness.model import TailCall
from harness.reading import read_asked
from harness.sidewords import SPELLED, Place, Word, table_of, text_of, texts_of
from harness.tags import Claims, require_judged

SUFFIX = ".expect.toml"
# one that names every program of the largest object is a hundred times smaller
MAX_BYTES = 8 << 20
_FIX = "see docs/writing-cases.md"
_TOP = ("object", "left_out", "default", "case")
_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*")
_HEADER = re.compile(r"\s*(\[[^\[\]]+\])\s*(?:#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")

Path_ = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attached:
    """A program that is attached while a case runs."""

    program: str
    # function that it replaces or watches; "": the one that its section names
    target: str
    place: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """One case."""

    name: str
    program: str
    # file name of the object whose program runs; "": the sidecar's own
    object: str
    words: tuple[Word, ...]
    attached: tuple[Attached, ...]
    tail_calls: tuple[TailCall, ...]
    # constant of the object -> value without which there is no such case
    only_if: tuple[tuple[str, int], ...]
    place: Place
    places: Mapping[str, Place]
    description: str = ""

    def at(self, key: str) -> Place:
        """Where a key of the case stands; the case itself where it was not given."""
        return self.places.get(key, self.place)

    def claims(self, tagged: Claims | None = None) -> Claims:
        """What it says, on top of what the program's tags do. Raises UsageError."""
        made = copy.deepcopy(tagged) if tagged is not None else Claims()
        for word in self.words:
            word.put(made)
        made.description = self.description or made.description
        try:
            require_judged(made, f"{self.place.file}:{self.place.line}: {self.place.what}")
        except BpfthrowError as error:
            raise UsageError(error.message, fix=error.fix) from None
        return made


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a file says of one object."""

    path: Path
    # file name of the object
    object: str
    # patterns of programs that are meant to be no case
    left_out: tuple[str, ...]
    entries: tuple[Entry, ...]
    place: Place

    def is_left_out(self, program: str) -> bool:
        """Whether the file says that there is no case for this program."""
        return any(fnmatchcase(program, pattern) for pattern in self.left_out)


def beside(path: Path) -> Path | None:
    """The sidecar that lies beside an object or a source; None where there is none."""
    found = path.with_name(stem(path.name) + SUFFIX)
    return found if found.is_file() else None


def stem(name: str) -> str:
    """Name of an object, a source or a sidecar without what says that it is one."""
    for suffix in (SUFFIX, ".bpf.o", ".bpf.c", ".o"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def read(path: Path) -> Sidecar:
    """Read a sidecar. Raises UsageError with file, line and key."""
    data = read_asked(path, MAX_BYTES, _FIX)
    try:
        text = data.decode()
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}", fix=_FIX) from None
    return _Reader(str(path), _lines(text)).read(path, content)


@dataclass(slots=True)
class _Draft:
    """One case while its keys are read."""

    words: list[Word] = field(default_factory=list)
    description: str = ""
    program: str = ""
    object: str = ""
    attached: list[Attached] = field(default_factory=list)
    tail_calls: list[TailCall] = field(default_factory=list)
    only_if: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Reader:
    file: str
    lines: dict[Path_, int]

    def place(self, *path: str) -> Place:
        line = next(
            (self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 1
        )
        table = 2 if path[0] == "case" else 1
        inside = path[table:] if path[0] in ("case", "default") else ()
        head = f"[{'.'.join(path[:table])}]" if path[0] in ("case", "default") else path[0]
        return Place(self.file, line, " ".join([head, ".".join(inside)]).strip())

    def read(self, path: Path, content: dict[str, Any]) -> Sidecar:
        for key in content:
            if key not in _TOP:
                raise self.place(key).wrong("unknown key", f"known: {', '.join(_TOP)}")
        name = text_of(content.get("object", stem(path.name) + ".bpf.o"), self.place("object"))
        left_out = tuple(texts_of(content.get("left_out", []), self.place("left_out")))
        default = table_of(content.get("default", {}), self.place("default"))
        cases = table_of(content.get("case", {}), self.place("case"))
        if not cases:
            raise UsageError(f"{self.file}: no case", fix="give it tables [case.NAME]")
        entries = tuple(self._entry(case, cases[case], default) for case in cases)
        return Sidecar(path, name, left_out, entries, Place(self.file, 1, name))

    def _entry(self, name: str, given: Any, default: dict[str, Any]) -> Entry:
        here = self.place("case", name)
        if not _NAME.fullmatch(name):
            raise here.wrong("no name of a case", "letters, digits, and _ . + - inside")
        own = table_of(given, here)
        places = {key: self.place("default", key) for key in default}
        places |= {key: self.place("case", name, key) for key in own}
        draft = _Draft(program=name)
        for key, value in {**default, **own}.items():
            _put(draft, key, value, places[key])
        return Entry(
            name,
            draft.program,
            draft.object,
            tuple(draft.words),
            tuple(draft.attached),
            tuple(draft.tail_calls),
            tuple(draft.only_if),
            here,
            places,
            draft.description,
        )


def _put(draft: _Draft, key: str, value: Any, place: Place) -> None:
    if own := _OWN.get(key):
        own(draft, value, place)
        return
    spell = SPELLED.get(key)
    if spell is None:
        raise place.wrong("unknown key", f"known: {', '.join(sorted((*_OWN, *SPELLED)))}")
    word = Word(key, tuple(spell(value, place)), place)
    word.put(Claims())  # what is wrong by itself is told at once
    draft.words.append(word)


# ---- what only a sidecar says -----------------------------------------------------------------


def _put_program(draft: _Draft, value: Any, place: Place) -> None:
    draft.program = text_of(value, place)


def _put_object(draft: _Draft, value: Any, place: Place) -> None:
    draft.object = text_of(value, place)
    if "/" in draft.object:
        raise place.wrong("is looked for beside the sidecar's own object", "give a name only")


def _put_with(draft: _Draft, value: Any, place: Place) -> None:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str):
            draft.attached.append(Attached(each, "", place))
            continue
        table = table_of(each, place)
        if set(table) - {"program", "target"} or "program" not in table:
            raise place.wrong(f"{each!r} is no program to attach", _FORM_OF_WITH)
        program, target = text_of(table["program"], place), table.get("target", "")
        draft.attached.append(Attached(program, text_of(target, place), place))


def _put_tail_calls(draft: _Draft, value: Any, place: Place) -> None:
    for name, slots in table_of(value, place).items():
        for index, program in enumerate(texts_of(slots, place)):
            if program:
                draft.tail_calls.append(TailCall(name, index, program))


def _put_only_if(draft: _Draft, value: Any, place: Place) -> None:
    for name, number in table_of(value, place).items():
        if not isinstance(number, int):
            raise place.wrong(f"{name}: {number!r} is no number")
        draft.only_if.append((name, int(number)))


def _put_description(draft: _Draft, value: Any, place: Place) -> None:
    draft.description = text_of(value, place)


_FORM_OF_WITH = 'with = "NAME", or with = { program = "NAME", target = "FUNCTION" }, or a list'
_OWN: dict[str, Callable[[_Draft, Any, Place], None]] = {
    "program": _put_program,
    "object": _put_object,
    "with": _put_with,
    "tail_calls": _put_tail_calls,
    "only_if": _put_only_if,
    "description": _put_description,
}


# ---- lines --------------------------------------------------------------------------------------


def _lines(text: str) -> dict[Path_, int]:
    """The line on which each table and key of a file begins. tomllib does not say."""
    found: dict[Path_, int] = {}
    table: Path_ = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            table = _path(header[1])
            _note(found, table, number)
        elif key := _KEY.match(line):
            _note(found, (*table, *_path(f"{key[1]} = 0")), number)
    return found


def _note(found: dict[Path_, int], path: Path_, number: int) -> None:
    for end in range(1, len(path) + 1):
        found.setdefault(path[:end], number)


def _path(line: str) -> Path_:
    try:
        table: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()  # part of a text of several lines
    path = []
    while isinstance(table, dict) and table:
        ((name, table),) = table.items()
        path.append(name)
    return tuple(path)
