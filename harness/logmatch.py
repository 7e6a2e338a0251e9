# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Verifier logs: expected lines in order, what differs between kernels taken out, useful lines.

Patterns are those of the kernel selftests' __msg(): plain text in which {{...}} holds a regular
expression. Does not know which lines a case should show.
"""

import re
from collections.abc import Callable, Sequence

from harness.errors import UsageError

# What a log says differently on each load or kernel, and what it becomes. Digits stay digits,
# so that a {{[0-9]+}} of a pattern still matches.
_VOLATILE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?m)^\d+: "), "0: "),  # instruction number in front of a line
    (re.compile(r"\binsn \d+"), "insn 0"),
    (re.compile(r"#\d+"), "#0"),  # BTF id of a kfunc: bpf_throw#73439
    (re.compile(r"\b((?:ref_obj_)?id)=\d+"), r"\1=0"),
    (re.compile(r"[ \t]+"), " "),
)
_NOISE = re.compile(
    r"^(processed \d+ insns|max_states_per_insn|verification time|stack depth|mark_precise"
    r"|func#\d+ @|-- (BEGIN|END) PROG LOAD LOG --|\s*$)"
)
_REGEX_PART = re.compile(r"\{\{(.*?)\}\}")
# stands for any text in may_show(); no log has it
_ANY = "\0"


def normalise(text: str) -> str:
    """`text` without instruction numbers, object ids and BTF ids."""
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return text


def missing(patterns: Sequence[str], log: str) -> tuple[int, ...]:
    """Indices of the patterns that `log` does not show in order; () when all are there.

    Tried on the log as it is, then with both sides normalised.
    """
    plain = _missing([_expression(p, lambda text: text) for p in patterns], log)
    if not plain:
        return ()
    return _missing([_expression(p, normalise) for p in patterns], normalise(log))


def _missing(expressions: Sequence[re.Pattern[str]], log: str) -> tuple[int, ...]:
    return tuple(i for i, match in enumerate(_matches(expressions, log)) if match is None)


def _matches(expressions: Sequence[re.Pattern[str]], log: str) -> list[re.Match[str] | None]:
    position, found = 0, []
    for expression in expressions:
        match = expression.search(log, position)
        found.append(match)
        position = match.end() if match else position
    return found


def may_show(pattern: str, line: str) -> bool:
    """Whether a text that the pattern `line` stands for shows `pattern`, mostly in its own words.

    Both as for missing(); a {{...}} stands for any text here, in either of them. At least half of
    what `pattern` says must be what `line` says, or a line that leaves much open would fit all.
    """
    mine, theirs = _pieces(pattern), _pieces(line)
    common = _in_common(_ANY.join(["", *mine, ""]), _ANY.join(theirs))
    return 2 * common >= len("".join(mine))


def _pieces(pattern: str) -> list[str]:
    return _REGEX_PART.split(normalise(pattern))[::2]


def _in_common(one: str, other: str) -> int:
    """Characters that are the same in a text that fits both, at most; -1: no text does."""
    ends = len(other)
    # for what is left of `one`: the answer for each rest of `other`
    behind = [-1] * (ends + 2)
    for at in range(len(one), -1, -1):
        char = one[at : at + 1]
        here = [-1] * (ends + 2)
        for place in range(ends, -1, -1):
            against = other[place : place + 1]
            found = [0 if not char and not against else -1]
            if _ANY in (char, against):
                found += [here[place + 1] if against else -1, behind[place] if char else -1]
            elif char and char == against and behind[place + 1] >= 0:
                found.append(behind[place + 1] + 1)
            here[place] = max(found)
        behind = here
    return behind[0]


def present(
    unwanted: Sequence[tuple[int, str]], patterns: Sequence[str], log: str
) -> tuple[int, ...]:
    """Indices of the `unwanted` that `log` shows: (n, pattern) after the first n `patterns`.

    Each is looked for up to where the next of `patterns` begins, as the kernel's loader does it.
    """
    found = _matches([_expression(p, lambda text: text) for p in patterns], log)
    seen = []
    for index, (before, pattern) in enumerate(unwanted):
        start = max((match.end() for match in found[:before] if match), default=0)
        following = found[before] if before < len(found) else None
        end = following.start() if following else len(log)
        if _expression(pattern, lambda text: text).search(log, start, end):
            seen.append(index)
    return tuple(seen)


def _expression(pattern: str, clean: Callable[[str], str]) -> re.Pattern[str]:
    # split() with one group: text and regular expressions alternate
    parts = _REGEX_PART.split(pattern)
    text = "".join(
        f"(?:{part})" if index % 2 else re.escape(clean(part)) for index, part in enumerate(parts)
    )
    try:
        return re.compile(text, re.MULTILINE)
    except re.error as error:
        raise UsageError(
            f"pattern {pattern!r}: {error}", fix="correct the regular expression in {{...}}"
        ) from error


def useful_lines(log: str, limit: int = 8) -> list[str]:
    """The last `limit` telling lines, statistics left out, with a note of what was omitted."""
    lines = [line.rstrip() for line in log.splitlines() if not _NOISE.match(line)]
    if len(lines) <= limit:
        return lines
    return [f"({len(lines) - limit} lines omitted, all of them in the JSON)", *lines[-limit:]]
