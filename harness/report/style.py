# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Marks and colours: what a terminal, a file and an old encoding can show."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from harness.report.outcome import Outcome

_UNICODE = {"agree": "✓", "unsupported": "·"}
_ASCII = {"agree": "ok", "unsupported": "--"}
_COLOURS = {"agree": "32", "unsupported": "2"}


# one for each outcome, where there is room: each has its own, so that nothing hangs on colour
SYMBOLS = {
    Outcome.AGREE: "✓",
    Outcome.DIFFER: "✗",
    Outcome.UNSUPPORTED: "·",
    Outcome.CRASHED: "‼",
    Outcome.HUNG: "…",
    Outcome.FLAKY: "~",
    Outcome.LOST: "?",
}
# what XML 1.0 cannot carry, not even escaped; HTML and UTF-8 neither
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """`text` for XML and HTML, yet to be escaped: what they cannot carry becomes "?"."""
    return _ILLEGAL.sub("?", text)


@dataclass(frozen=True, slots=True)
class Style:
    """How marks look. The mark alone says what happened; colour only repeats it."""

    unicode: bool = True
    colour: bool = False

    def mark(self, outcome: Outcome) -> str:
        """Mark of a result: agreement, unsupported, or anything else."""
        table = _UNICODE if self.unicode else _ASCII
        return table.get(outcome, "✗" if self.unicode else "NO")

    def paint(self, text: str, outcome: Outcome) -> str:
        """`text` in the outcome's colour, or as it is."""
        if not self.colour:
            return text
        return f"\x1b[{_COLOURS.get(outcome, '31')}m{text}\x1b[0m"


PLAIN = Style(unicode=False)


def style_for(stream: TextIO, environ: Mapping[str, str] | None = None) -> Style:
    """Style that `stream` can show: colour on a terminal without NO_COLOR (no-color.org)."""
    environ = os.environ if environ is None else environ
    try:
        "✓✗·".encode(stream.encoding or "ascii")
        unicode = True
    except (UnicodeEncodeError, LookupError):
        unicode = False
    colour = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return Style(unicode, colour)
