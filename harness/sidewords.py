# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The tags' vocabulary as keys and values of TOML.

Owns which key takes what kind of value, what stands behind `bpfthrow:KEY=` for it, and errors with
file, line and key. What a tag claims is harness.tags'; the form of a file is harness.sidecar's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.errors import BpfthrowError, UsageError
from harness.tags import KEYS, Claims


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file, for an error about it."""

    file: str
    line: int
    # "[case.x] retval"
    what: str

    def wrong(self, message: str, fix: str = "") -> UsageError:
        """An error that says where."""
        return UsageError(f"{self.file}:{self.line}: {self.what}: {message}", fix=fix)


@dataclass(frozen=True, slots=True)
class Word:
    """One key that a tag could say, too."""

    key: str
    # what would stand behind it in each tag
    texts: tuple[str, ...]
    place: Place

    def put(self, claims: Claims) -> None:
        """Add it to claims, in place of what they say under this key. Raises UsageError."""
        _FORGET.get(self.key, _keep)(claims)
        for text in self.texts:
            try:
                KEYS[self.key](claims, text)
            except BpfthrowError as error:
                raise self.place.wrong(error.message, error.fix) from None
            except ValueError as error:
                raise self.place.wrong(str(error)) from None


# ---- words of the tags: a value of TOML -> what would stand behind "bpfthrow:KEY=" --------------


def _once(value: Any, place: Place) -> Iterator[str]:
    if value is not True:
        raise place.wrong(f"{value!r}: can only be true", "leave it out otherwise")
    yield ""


def _numbers(value: Any, place: Place) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _named(value, place)
    else:
        yield _number(value, place)


def _named(value: Any, place: Place) -> Iterator[str]:
    for name, number in table_of(value, place).items():
        yield f"{name}={_number(number, place)}"


def _inputs(value: Any, place: Place) -> Iterator[str]:
    named = value if isinstance(value, dict) else {"default": value}
    for name, words in named.items():
        yield f"0={name}={text_of(words, place)}"


def _messages(value: Any, place: Place) -> Iterator[str]:
    for text in texts_of(value, place):
        yield f"0={text}"


def _series(value: Any, place: Place) -> Iterator[str]:
    for names, changes in table_of(value, place).items():
        for what, argument in table_of(changes, place).items():
            spell = _OF_SERIES.get(what)
            if spell is None:
                raise place.wrong(
                    f"{names}: unknown key {what!r}", f"known: {', '.join(_OF_SERIES)}"
                )
            for text in spell(argument, place):
                yield f"{names}={what}={text}" if text else f"{names}={what}"


def _each(value: Any, place: Place) -> Iterator[str]:
    yield from texts_of(value, place)


def _single(value: Any, place: Place) -> Iterator[str]:
    yield _number(value, place)


_Spelled = Callable[[Any, Place], Iterator[str]]
_OF_SERIES: dict[str, _Spelled] = {
    "success": _once,
    "failure": _once,
    "retval": _single,
    "errno": _single,
    "msg": _messages,
}
SPELLED: dict[str, _Spelled] = {
    "success": _once,
    "failure": _once,
    "retval": _numbers,
    "errno": _single,
    "msg": _messages,
    "input": _inputs,
    "hook": _each,
    "global": _named,
    "repeat": _single,
    "needs": _each,
    "traced": _each,
    "crashes": _each,
    "on": _series,
}


def _keep(_: Claims) -> None:
    pass


def _forget_verdict(claims: Claims) -> None:
    claims.verdict = None


def _forget_value(claims: Claims) -> None:
    claims.retval = None
    claims.retval_of.clear()


# what a key takes the place of
_FORGET: dict[str, Callable[[Claims], None]] = {
    "success": _forget_verdict,
    "failure": _forget_verdict,
    "retval": _forget_value,
    "msg": lambda claims: claims.messages.clear(),
    "input": lambda claims: claims.inputs.clear(),
    "hook": lambda claims: claims.hooks.clear(),
}


def _number(value: Any, place: Place) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise place.wrong(f"{value!r} is no number", 'a number, or an expression: "XDP_DROP"')
    return str(value)


def text_of(value: Any, place: Place) -> str:
    if not isinstance(value, str):
        raise place.wrong(f"{value!r} is no text", 'put it into "..."')
    return value


def texts_of(value: Any, place: Place) -> list[str]:
    return [text_of(each, place) for each in (value if isinstance(value, list) else [value])]


def table_of(value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.wrong(f"{value!r} is no table", "{ NAME = VALUE }")
    return value
