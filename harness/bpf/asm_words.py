# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Words of assembler text, and the mistakes in it.

Owns what a word is and where it stands. Which words make an instruction is
harness.bpf.asm_grammar's business.
"""

import re
from dataclasses import dataclass

from harness.errors import UsageError

# kinds of words; anything else stands for itself
REGISTER, HALF, NUMBER, NAME = "register", "half", "number", "name"

_WORD = re.compile(
    r"""
    (?P<blank>\s+)
  | (?P<register>r(?:1[01]|\d)\b) | (?P<half>w(?:1[01]|\d)\b)
  | (?P<number>(?:[+-]\s*){0,2}(?:0[xX][0-9a-fA-F]+|\d+)(?![\w.$]))
  | (?P<sign>s?(?:<<|>>)=|s[<>]=?|s[/%]=|[-+*/%&|^=!<>]=|[-+*&=<>()\[\],:\#])
  | (?P<name>[A-Za-z_.$][\w.$]*)
    """,
    re.VERBOSE | re.ASCII,
)
# more digits than any field holds; Python refuses to convert thousands of them
_MOST_DIGITS = 40
_TOO_BIG = 1 << 99
# what llvm-objdump puts behind a jump: <function+0x10>
_PLACE = re.compile(r"\s<[\w.$+]+>\s*$")
_COMMENT = re.compile(r";|//|^\s*#")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a line."""

    # a kind above, or the sign itself
    kind: str
    text: str
    # from 1
    column: int
    # of a register or number
    value: int = 0

    @property
    def is_hex(self) -> bool:
        """Whether a number is written in hexadecimal."""
        return "x" in self.text.lower()

    @property
    def is_signed(self) -> bool:
        """Whether a number has a sign in front."""
        return self.text[0] in "+-"


@dataclass(frozen=True, slots=True)
class Where:
    """A line of a source, for messages."""

    file: str
    number: int
    text: str

    def mistake(self, column: int, what: str, fix: str = "") -> UsageError:
        """An error at a column of this line."""
        return UsageError(f"{self.file}:{self.number}:{column}: {what}", fix=fix)


def split(where: Where, start: int = 0) -> list[Word]:
    """Words of a line from `start` on, comments left out. Raises UsageError for a foreign sign."""
    comment = _COMMENT.search(where.text, start)
    text = where.text[: comment.start()] if comment else where.text
    place = _PLACE.search(text, start)
    text = text[: place.start()] if place else text
    words, at = [], start
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            raise where.mistake(at + 1, f"no word starts with {text[at]!r}")
        if found.lastgroup != "blank":
            words.append(_word(found, at + 1))
        at = found.end()
    return words


def _word(found: re.Match[str], column: int) -> Word:
    kind, text = found.lastgroup or "", found[0]
    if kind in (REGISTER, HALF):
        return Word(kind, text, column, int(text[1:]))
    if kind == NUMBER:
        digits = text.lstrip("+- \t")
        value = (
            int(digits, 16 if "x" in digits.lower() else 10)
            if len(digits) <= _MOST_DIGITS
            else _TOO_BIG
        )
        return Word(kind, text, column, -value if text.count("-") == 1 else value)
    return Word(NAME if kind == NAME else text, text, column)
