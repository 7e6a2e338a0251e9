# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Workflow commands: what a step of a forge's job prints to have lines of a source marked.

Owns their form, as GitHub's and compatible runners read it ("Workflow commands for GitHub Actions",
and the escaping in actions/toolkit, packages/core/src/command.ts). Prints nothing.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a source file; line 0: only the file is known, "" as file: nothing is."""

    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Annotation:
    """One thing to be shown beside the source."""

    # "error", "warning" or "notice"
    level: str
    title: str
    text: str
    place: Place = Place()


def workspace(environ: Mapping[str, str] | None = None) -> Path:
    """The checkout that a forge's job works in: $GITHUB_WORKSPACE, or the current directory."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("GITHUB_WORKSPACE") or Path.cwd())


def github(found: Iterable[Annotation], checkout: Path) -> list[str]:
    """Each annotation as a workflow command, one line each.

    Files are named relative to `checkout`. One outside of it cannot be annotated:
    its name goes into the text.
    """
    return [_command(each, checkout.resolve()) for each in found]


def _command(each: Annotation, checkout: Path) -> str:
    text, place = each.text, each.place
    properties = {}
    if place.file:
        # lexically: what the object says need not exist here
        file = Path(os.path.normpath(checkout / place.file))
        if file.is_relative_to(checkout):
            properties["file"] = file.relative_to(checkout).as_posix()
            if place.line:
                properties["line"] = str(place.line)
        else:
            text = f"{place.file}:{place.line}\n{text}"
    properties["title"] = each.title
    words = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{each.level} {words}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
