# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""JSON both ways for the records of harness.model: bytes travel as hex, tuples as lists.

Standard library only: the agent uses it too. Unknown keys are errors, missing ones take the
record's default.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from harness.errors import UsageError

T = TypeVar("T")
# from plain JSON types to a value; raises _WrongError
Reader = Callable[[Any], Any]

_PLAIN = frozenset({str, int, float, bool, types.NoneType})


def to_json(value: Any, *, brief: bool = False) -> Any:
    """Return `value` as plain JSON types. `brief`: without what has its record's default."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, (list, tuple)):
        return [to_json(item, brief=brief) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item, brief=brief) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    members = {name: getattr(value, name) for name in _fields(kind)}
    if brief:
        usual = _defaults(kind)
        members = {n: item for n, item in members.items() if n not in usual or usual[n] != item}
    return {name: to_json(item, brief=brief) for name, item in members.items()}


def from_json(kind: type[T], data: Any, where: str = "$") -> T:
    """Build a `kind` from plain JSON types. Raises UsageError naming the place that is wrong."""
    wanted: Any = kind
    try:
        return typing.cast("T", _reader(wanted)(data))
    except _WrongError as error:
        place = "".join(reversed(error.inside))
        raise UsageError(f"{where}{place}: {error}") from error


class _WrongError(Exception):
    """What is wrong, and on its way out the steps that lead to it, the last one first."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.inside: list[str] = []


@functools.cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


@functools.cache
def _defaults(kind: type) -> dict[str, Any]:
    none = dataclasses.MISSING
    plain = {f.name: f.default for f in dataclasses.fields(kind) if f.default is not none}
    made = {
        f.name: f.default_factory()
        for f in dataclasses.fields(kind)
        if f.default_factory is not none
    }
    return plain | made


# Looking at types takes ten times as long as what is then done: a guest does that once for each.
@functools.cache
def _reader(kind: Any) -> Reader:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(next(arg for arg in args if arg is not types.NoneType))
    if origin is tuple:
        return _list(args[0]) if args[-1] is Ellipsis else _row(args)
    if origin is dict:
        return _table(args[1])
    if kind is bytes:
        return _bytes
    if issubclass(kind, Enum):
        return _enum(kind)
    return _plain(kind)


@functools.cache
def _members(kind: type) -> dict[str, Reader]:
    hints = typing.get_type_hints(kind)
    return {name: _reader(hints[name]) for name in _fields(kind)}


def _record(kind: type) -> Reader:
    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _WrongError(f"expected an object for {kind.__name__}, got {data!r:.60}")
        # not before: a record may hold one of its own kind
        readers = _members(kind)
        values = {}
        for key, item in data.items():
            if key not in readers:
                raise _WrongError(f"unknown key {key!r} for {kind.__name__}")
            values[key] = _inside(f".{key}", readers[key], item)
        try:
            return kind(**values)
        except TypeError as error:
            raise _WrongError(str(error)) from error

    return read


def _inside(step: str, reader: Reader, data: Any) -> Any:
    try:
        return reader(data)
    except _WrongError as error:
        error.inside.append(step)
        raise


def _optional(kind: Any) -> Reader:
    reader = _reader(kind)
    return lambda data: None if data is None else reader(data)


def _list(kind: Any) -> Reader:
    reader = _reader(kind)

    def read(data: Any) -> Any:
        if not isinstance(data, list):
            raise _expected(tuple, data)
        return tuple(_inside(f"[{index}]", reader, item) for index, item in enumerate(data))

    return read


def _row(kinds: tuple[Any, ...]) -> Reader:
    readers = tuple(map(_reader, kinds))

    def read(data: Any) -> Any:
        if not isinstance(data, list) or len(data) != len(readers):
            raise _expected(tuple, data)
        pairs = enumerate(zip(readers, data, strict=True))
        return tuple(_inside(f"[{index}]", reader, item) for index, (reader, item) in pairs)

    return read


def _table(kind: Any) -> Reader:
    reader = _reader(kind)

    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _expected(dict, data)
        return {key: _inside(f".{key}", reader, item) for key, item in data.items()}

    return read


def _bytes(data: Any) -> bytes:
    if not isinstance(data, str):
        raise _expected(bytes, data)
    try:
        return bytes.fromhex(data)
    except ValueError as error:
        raise _WrongError(str(error)) from error


def _enum(kind: type[Enum]) -> Reader:
    def read(data: Any) -> Any:
        try:
            return kind(data)
        except ValueError as error:
            raise _WrongError(str(error)) from error

    return read


def _plain(kind: type) -> Reader:
    def read(data: Any) -> Any:
        if isinstance(data, kind):
            return data
        if kind is float and isinstance(data, int):
            return float(data)
        raise _expected(kind, data)

    return read


def _expected(kind: type, data: Any) -> _WrongError:
    return _WrongError(f"expected {kind.__name__}, got {data!r:.60}")
