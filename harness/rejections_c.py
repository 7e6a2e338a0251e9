# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a reader is shown of a source of progs/reject: a program and what it calls, no claims.

Reads text, not C: it knows the layout that clang-format gives our sources.
"""

import difflib
import re
from functools import cache

_HEAD = re.compile(r"/\*(.*?)\*/", re.DOTALL)
_BANNER = "----"
# a function's head and body: it begins a line, and so does the brace that closes it
_FUNCTION = re.compile(
    r"(?ms)^(?!#)[A-Za-z_](?:[^\n;{}]*\b)?(?P<name>\w+)\([^(){};]*\)\n\{\n.*?^\}$"
)
_CALLBACK = re.compile(r"^__exception_cb\([^)]*\)", re.MULTILINE)
_NAME = re.compile(r"\b[A-Za-z_]\w*\b")


def first_comment(text: str) -> str:
    """The comment on top of a source, in one line."""
    match = _HEAD.search(text)
    return _in_one_line(match[1]) if match else ""


def what_it_is(text: str, program: str) -> str:
    """The comment above a program, the source's where it is the only one; "" for none."""
    if program == "refused":
        return first_comment(text).partition(". ")[0].rstrip(".").replace("|", "\\|")
    comment = re.match(r"/\*(.*?)\*/", text[_start(text, program) :], re.DOTALL)
    if comment is None or _BANNER in comment[1]:
        return ""
    return _in_one_line(comment[1]).rstrip(".").replace("|", "\\|")


def excerpt(text: str, program: str, section: str) -> str:
    """The C of a program without its claims, behind what it calls; "" where a macro writes it."""
    own = _functions(text)
    if program not in own:
        return ""
    start = text.rfind("\n\n", 0, text.index(own[program])) + 2
    head = text[start : text.index(own[program])]
    callback = _CALLBACK.search(head)
    lines = [f'SEC("{section.removeprefix("?")}")', *([callback[0]] if callback else [])]
    below = _called(own, program, callback[0] if callback else "")
    # claims may stand in front of the return type, on the same line
    body = re.sub(r"(?ms)\A.*?(?=^(?:[\w *]+ )?\w+\()", "", own[program], count=1)
    return "\n\n".join([*below, "\n".join([*lines, body])]).expandtabs(8)


def likeness(one: str, other: str) -> float:
    """How much two texts have in common: 0 to 1."""
    return difflib.SequenceMatcher(None, one.splitlines(), other.splitlines()).ratio()


def _called(own: dict[str, str], program: str, more: str) -> list[str]:
    """Functions of the source that it calls or names, in the order of the source."""
    wanted: set[str] = set()
    todo = [own[program] + more]
    while todo:
        names = set(_NAME.findall(todo.pop())) & own.keys() - wanted - {program}
        wanted |= names
        todo += [own[name] for name in names]
    return [text for name, text in own.items() if name in wanted]


@cache
def _functions(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _FUNCTION.finditer(text):
        found.setdefault(match["name"], match[0])
    return found


def _start(text: str, program: str) -> int:
    """Where a program begins: behind the empty line above it."""
    own = _functions(text).get(program)
    # a macro may write it: the last one, since macros may make more than programs
    calls = re.finditer(rf"(?m)^\w+\((?:.*, )?{program}\b", text)
    made = [found.start() for found in calls]
    at = text.index(own) if own else made[-1] if made else len(text)
    return text.rfind("\n\n", 0, at) + 2


def _in_one_line(comment: str) -> str:
    return " ".join(re.sub(r"\n\s*\*", " ", comment).split())
