# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""JSON both ways for the records of harness.model: bytes travel as hex, tuples as lists.

Standard library only: the agent uses it too. Unknown keys are errors, missing ones take the
record's default.
"""

import dataclasses
import functools
import types
import typing
from enum import Enum
from typing import Any, TypeVar

from harness.errors import UsageError


def to_json(value: Any) -> Any:
    """Return `value` as plain JSON types."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    return value


T = TypeVar("T")


def from_json(kind: type[T], data: Any, where: str = "$") -> T:
    """Build a `kind` from plain JSON types. Raises UsageError naming the place that is wrong."""
    return typing.cast("T", _build(kind, data, where))


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, data: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_record(kind, data, where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = next(arg for arg in args if arg is not type(None))
        return None if data is None else _build(inner, data, where)
    if origin is tuple and isinstance(data, list):
        kinds = [args[0]] * len(data) if args[-1] is Ellipsis else list(args)
        if len(kinds) == len(data):
            pairs = enumerate(zip(kinds, data, strict=True))
            return tuple(_build(k, item, f"{where}[{i}]") for i, (k, item) in pairs)
    if origin is dict and isinstance(data, dict):
        return {key: _build(args[1], item, f"{where}.{key}") for key, item in data.items()}
    return _build_plain(kind, data, where)


def _build_record(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected an object for {kind.__name__}, got {data!r:.60}")
    hints = _hints(kind)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r} for {kind.__name__}")
    values = {key: _build(hints[key], item, f"{where}.{key}") for key, item in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{where}: {error}") from error


def _build_plain(kind: Any, data: Any, where: str) -> Any:
    try:
        if kind is bytes and isinstance(data, str):
            return bytes.fromhex(data)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind(data)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    if kind is float and isinstance(data, int):
        return float(data)
    if isinstance(kind, type) and isinstance(data, kind):
        return data
    raise UsageError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {data!r:.60}")
