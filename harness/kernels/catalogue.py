# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""vm/kernels.toml: names of kernels and the package patterns behind them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.paths import VM_DIR


@dataclass(frozen=True, slots=True)
class Entry:
    """One named kernel of the catalogue."""

    name: str
    # suites of the machine's own mirror
    suites: tuple[str, ...]
    # glob of the package with the kernel image: linux-image-RELEASE or linux-binary-RELEASE
    image: str
    # further packages of the same release, "{release}" to be filled in
    also: tuple[str, ...]
    expects_throw: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All named kernels, in the file's order (oldest first)."""

    entries: dict[str, Entry]
    default: str
    # globs of package names that never count
    exclude: tuple[str, ...]


_TOP = {"default": str, "exclude": list, "kernels": dict}
_ENTRY = {"suites": list, "image": str, "also": list, "expects_throw": bool}
_OPTIONAL = frozenset({"also", "exclude"})


def _check(where: str, table: dict[str, Any], keys: Mapping[str, type]) -> None:
    for key in table.keys() - keys.keys():
        raise UsageError(f"{where}: unknown key {key!r}", fix=f"the keys are {', '.join(keys)}")
    for key, kind in keys.items():
        if key not in table and key in _OPTIONAL:
            continue
        if not isinstance(table.get(key), kind):
            raise UsageError(f"{where}: {key} must be given, as {kind.__name__}")


def _entry(where: str, name: str, table: dict[str, Any]) -> Entry:
    _check(f"{where}: kernels.{name!r}", table, _ENTRY)
    return Entry(
        name=name,
        suites=tuple(table["suites"]),
        image=table["image"],
        also=tuple(table.get("also", ())),
        expects_throw=table["expects_throw"],
    )


def load(path: Path | None = None) -> Catalogue:
    """Read the catalogue; UsageError that names file and key where something is wrong."""
    path = path or VM_DIR / "kernels.toml"
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    _check(str(path), table, _TOP)
    entries = {name: _entry(str(path), name, each) for name, each in table["kernels"].items()}
    if table["default"] not in entries:
        raise UsageError(f"{path}: default {table['default']!r} is not among the kernels")
    return Catalogue(entries, table["default"], tuple(table.get("exclude", ())))
